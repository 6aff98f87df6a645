"""The JSON lines of `jarai webhooks listen`: events without signed URLs."""

import json
from string import ascii_letters
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async._cli.json_lines import webhook_event_line
from jarai_async.webhooks import sign, verify
from tests.support.deliveries import SECRET, body, envelope
from tests.support.strategies import json_values


def printed(content: bytes) -> dict[str, Any]:
    return webhook_event_line(verify(content, sign(content, SECRET), SECRET))


parts = st.text(ascii_letters + 'é=&%/:"\\', max_size=5)
urls = st.builds("see {} https://blobs.example/{}?{}SECRET{}".format, parts, parts, parts, parts)
nested = st.recursive(
    urls, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(parts, inner, max_size=3)
)


@given(st.sampled_from(["deliverable.ready", "production.failed", "a.new.one"]), nested)
def test_no_signed_url_is_printed(event_type: str, inside: Any) -> None:
    """URLs lose their query strings anywhere in an event of any type; the rest of the text stays."""
    data = {"deliverables": [{"type": "Video", "sasUrl": "https://h/x?SECRET"}, inside], "more": inside}
    line = printed(body(event_type, data=data, truncated=True))
    assert line["truncated"] is True
    assert "SECRET" not in json.dumps(line)
    if event_type != "deliverable.ready":
        assert line["data"]["deliverables"][0] == {"type": "Video", "sasUrl": "https://h/x"}


@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_other_data_is_printed_unchanged(data: dict[str, Any]) -> None:
    """Data without URLs stays as it is, even if the event type is unknown."""
    text = json.dumps(envelope("a.new.one", data=data)).replace("NaN", "0").replace("Infinity", "1")
    assert printed(text.encode())["data"] == json.loads(text)["data"]


@pytest.mark.parametrize("data", [None, {}, {"deliverables": None}, {"deliverables": ["x", 3, []]}])
def test_unexpected_deliverables_are_printed_as_an_empty_list(data: Any) -> None:
    """The form of the list is inferred, so the real API may send something else."""
    assert printed(body("deliverable.ready", data=data))["data"] == {"deliverables": []}
