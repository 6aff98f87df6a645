"""Recognises a deliverable when the list of deliverables is read again, with fresh signed URLs.

Its id is inferred, and may be missing. A deliverable is recognised by the first of these that applies:

1. its id, if no other deliverable has the same;
2. the path of its URL, which a signature leaves as it is, if no other deliverable has the same;
3. its position, if the lists are equal in all fields but the URLs, and in all paths or in none of them.

Otherwise it is not recognised: a wrong guess would give one file the bytes of another.
"""

from collections.abc import Sequence

from attrs import evolve

from jarai_async._api.models import Deliverable, Listing
from jarai_async._urls import url_path


def with_listing(listed: Sequence[Deliverable]) -> list[Deliverable]:
    """Return the deliverables of one list, each with what it takes to recognise it in another."""
    paths = tuple(url_path(deliverable.url) for deliverable in listed)
    descriptions = tuple(map(_description, listed))
    return [evolve(file, listing=Listing(n, paths, descriptions)) for n, file in enumerate(listed)]


def find_again(before: Deliverable, listed: Sequence[Deliverable]) -> Deliverable | None:
    """Return the deliverable of a later list that is the same file; None if that is not certain."""
    listing = before.listing or Listing(0, (url_path(before.url),), (_description(before),))
    if before.id is not None and [fields[0] for fields in listing.descriptions].count(before.id) <= 1:
        same = [file for file in listed if file.id == before.id]
        return same[0] if len(same) == 1 else None
    paths = [url_path(file.url) for file in listed]
    path = listing.paths[listing.index]
    if path in paths and listing.paths.count(path) == paths.count(path) == 1:
        found = listed[paths.index(path)]
        return found if _description(found)[:4] == _description(before)[:4] else None
    paths_fit = set(paths).isdisjoint(listing.paths) or tuple(paths) == listing.paths
    if before.listing is None or not paths_fit or tuple(map(_description, listed)) != listing.descriptions:
        return None
    return listed[listing.index]


def _description(file: Deliverable) -> tuple[object, ...]:
    """What the list says of a file, without its URL; the first four items never change."""
    return (
        *(file.id, file.type, file.platform, file.file_name),
        *(file.content_type, file.size, file.content_md5),
    )
