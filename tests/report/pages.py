"""Reads a report's page as a browser does: its elements, attributes and text."""

from html.parser import HTMLParser

HOSTILE = (
    '</td></script><script>window.wasRun = 1</script><img src=x onerror="wasRun = 1">\'"` {{ 7 * 7 }}'
    "<!-- \u202etxt\u2066 \x1b[2J\n&lt; javascript:alert(1) é"
)
VOID = {"br", "input", "meta"}


class Page(HTMLParser):
    """`elements` are the names and attributes in their order, `texts` the text directly in each element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.setdefault(self._open[-1], []).append(data.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of this name."""
        return [attributes for name, attributes in self.elements if name == tag]
