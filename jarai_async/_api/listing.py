"""Recognises a deliverable when the list of deliverables is read again, with fresh signed URLs.

Its id is inferred, and may be missing. A deliverable is recognised by the first of these that applies:

1. its id, if no other deliverable has the same;
2. its address, which is what a new signature leaves of a URL, if no other deliverable has the same;
3. its position, if the lists are equal in all fields but the URLs, and in all addresses or in none of them.

An address is the path, and those parameters of the query that have the same values in both lists.

Otherwise it is not recognised: a wrong guess would give one file the bytes of another.
"""

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl

from attrs import evolve

from jarai_async._api.models import Deliverable, Listing
from jarai_async._urls import url_parts


def with_listing(listed: Sequence[Deliverable]) -> list[Deliverable]:
    """Return the deliverables of one list, each with what it takes to recognise it in another."""
    urls = tuple(deliverable.url for deliverable in listed)
    descriptions = tuple(map(_description, listed))
    return [evolve(file, listing=Listing(n, urls, descriptions)) for n, file in enumerate(listed)]


def find_again(before: Deliverable, listed: Sequence[Deliverable]) -> Deliverable | None:
    """Return the deliverable of a later list that is the same file; None if that is not certain."""
    listing = before.listing or Listing(0, (before.url,), (_description(before),))
    if before.id is not None and [fields[0] for fields in listing.descriptions].count(before.id) <= 1:
        same = [file for file in listed if file.id == before.id]
        return same[0] if len(same) == 1 else None
    old, new = _addresses(listing.urls, [file.url for file in listed])
    address = old[listing.index]
    if address in new and old.count(address) == new.count(address) == 1:
        found = listed[new.index(address)]
        return found if _description(found)[:4] == _description(before)[:4] else None
    addresses_fit = set(new).isdisjoint(old) or new == old
    if (
        before.listing is None
        or not addresses_fit
        or tuple(map(_description, listed)) != listing.descriptions
    ):
        return None
    return listed[listing.index]


def _addresses(*lists: Iterable[str]) -> list[list[object]]:
    """Return the addresses of the URLs in two lists."""
    queries = [[dict(parse_qsl(url_parts(url).query)) for url in urls] for urls in lists]
    old, new = (
        {name: sorted(query.get(name, "") for query in part) for query in part for name in query}
        for part in queries
    )
    kept = [name for name in old if old[name] == new.get(name)]
    return [
        [(url_parts(url).path, *map(query.get, kept)) for url, query in zip(urls, part, strict=True)]
        for urls, part in zip(lists, queries, strict=True)
    ]


def _description(file: Deliverable) -> tuple[object, ...]:
    """What the list says of a file, without its URL; the first four items never change."""
    return (
        *(file.id, file.type, file.platform, file.file_name),
        *(file.content_type, file.size, file.content_md5),
    )
