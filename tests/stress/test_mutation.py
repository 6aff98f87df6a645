"""The single mistakes of `python -m tests.stress mutation`."""

from pathlib import Path

from tests.stress.mistakes import mistakes

SOURCE = '''
LIMIT: int = 4


async def send(items, journal, *, limit=LIMIT):
    """Send the items."""
    _log.debug("sending %s", items)
    for item in items[:limit]:
        if item.size < limit and not item.sent:
            await journal.save(item, durable=True)
    return items
'''
EXPECTED = {
    "LIMIT: int = 8",
    "items[:]:",
    "if True:",
    "if False:",
    "if (item.size < limit or not item.sent):",
    "if (item.size < limit):",
    "if (not item.sent):",
    "if (item.size <= limit) and",
    "if (item.size >= limit) and",
    "and (item.sent):",
    "        pass\n",
    "await (journal.save(item))\n",
    "durable=False",
    "return None",
}


def test_each_mistake_is_one_edit_that_compiles(tmp_path: Path) -> None:
    """Conditions, comparisons, numbers, bounds, arguments, statements; not annotations, texts, debug logs."""
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    changed = [mistake.apply().decode() for mistake in mistakes(path)]
    for text in changed:
        compile(text, "module.py", "exec")
        assert all(part in text for part in ("LIMIT: int = ", "Send the items.", "sending %s"))
    found = {part for part in EXPECTED if any(part in text for text in changed)}
    assert len(changed) == len(set(changed)) == len(EXPECTED)
    assert found == EXPECTED
