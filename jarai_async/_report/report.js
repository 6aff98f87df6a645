"use strict";
{
  const table = document.getElementById("requests");
  if (table) {
    const rows = [...table.tBodies[0].rows];
    const collator = new Intl.Collator("en", { numeric: true });
    const state = document.getElementById("state");
    const text = document.getElementById("text");
    const shown = document.getElementById("shown");

    const keyOf = (row, column) => {
      const cell = row.cells[column];
      if (column === 0) return cell.querySelector("b").textContent;
      if (column === 1) return cell.dataset.state;
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);

    const sort = (column) => {
      const headers = [...table.tHead.rows[0].cells];
      const down = headers[column].ariaSort === "ascending";
      const keyed = rows.map((row) => [keyOf(row, column), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return down ? compare(b, a) : compare(a, b);
      });
      table.tBodies[0].append(...keyed.map(([, row]) => row));
      for (const header of headers) header.ariaSort = null;
      headers[column].ariaSort = down ? "descending" : "ascending";
    };

    const filter = () => {
      const wanted = text.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        const fits = (!state.value || row.cells[1].dataset.state === state.value)
          && (!wanted || row.cells[0].textContent.toLowerCase().includes(wanted));
        row.hidden = !fits;
        count += fits;
      }
      shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
    };

    const setAxis = (axis) => {
      table.dataset.axis = axis;
      const length = table.dataset[axis];
      for (const line of table.tBodies[0].getElementsByTagName("svg")) {
        line.setAttribute("viewBox", `${axis === "own" ? line.dataset.start : 0} 0 ${length} 10`);
      }
    };

    for (const [column, header] of [...table.tHead.rows[0].cells].entries()) {
      if (header.classList.contains("line")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = header.textContent;
      button.addEventListener("click", () => sort(column));
      header.replaceChildren(button);
    }
    state.addEventListener("change", filter);
    text.addEventListener("input", filter);
    for (const radio of document.getElementsByName("axis")) {
      radio.addEventListener("change", () => setAxis(radio.value));
    }
    document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("controls").hidden = false;
    filter();
  }
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("#problems details")) part.open = true;
  });
}
