"""A deliverable is recognised when its list is read again, or not at all: never taken for another one."""

from collections.abc import Callable
from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Deliverable
from jarai_async._api.listing import find_again, with_listing

HOST = "https://storage.example"


def twins(count: int, *, ids: bool = False) -> list[Deliverable]:
    """Return deliverables that differ only in their URLs, and in their ids if they have any."""
    return with_listing(
        [Deliverable("Video", f"{HOST}/{n}?sig=old", id=f"id-{n}" if ids else None) for n in range(count)]
    )


def renewed(listed: list[Deliverable], change: Callable[[str], str] = lambda url: url) -> list[Deliverable]:
    """Return the list as it is when it is read again: each URL has another signature."""
    fresh = [evolve(file, url=change(file.url).replace("sig=old", "sig=new")) for file in listed]
    return with_listing(fresh)


def move(url: str) -> str:
    """Return a URL with another path."""
    return url.replace(f"{HOST}/", f"{HOST}/moved/")


def one_path(url: str) -> str:
    """Return a URL whose path is that of every other file."""
    return url.replace(f"{HOST}/", f"{HOST}/file?name=").replace("?sig", "&sig")


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("change", [lambda url: url, move, one_path], ids=["kept", "moved", "one path"])
def test_twins_are_told_apart_when_the_list_is_read_again(change: Callable[[str], str], *, ids: bool) -> None:
    """By id, by the path of their URLs, or by their position in a list that is otherwise the same."""
    before = twins(5, ids=ids)
    if change is one_path:
        before = with_listing([evolve(file, url=one_path(file.url)) for file in before])
    fresh = renewed(before, move if change is move else lambda url: url)
    assert [find_again(file, fresh) for file in before] == fresh


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files[1:],
        lambda files: [*files, files[0]],
        lambda files: [evolve(files[0], file_name="new"), *files[1:]],
        lambda files: [evolve(files[0], size=5), *files[1:]],
    ],
    ids=["fewer", "more", "another name", "another size"],
)
def test_twin_is_not_recognised_by_position_in_a_list_that_has_changed(
    change: Callable[[list[Deliverable]], list[Deliverable]],
) -> None:
    before = twins(3)
    fresh = renewed(with_listing(change(before)), move)
    assert [find_again(file, fresh) for file in before] == [None] * 3


def test_twins_that_differ_in_a_query_parameter_are_told_apart_in_any_order() -> None:
    """A parameter that has the same values in both lists is not part of the signature."""
    before = with_listing([evolve(file, url=one_path(file.url)) for file in twins(3)])
    fresh = renewed([before[2], before[0], before[1]])
    assert [find_again(file, fresh) for file in before] == [fresh[1], fresh[2], fresh[0]]
    assert [find_again(file, renewed(before[1:])) for file in before] == [None] * 3


def test_removed_twin_is_not_replaced_by_a_new_one() -> None:
    """The paths of the others show that paths are kept, so its position does not count."""
    before = twins(3)
    fresh = renewed([*before[1:], evolve(before[0], url=f"{HOST}/new?sig=old")])
    assert find_again(before[0], fresh) is None
    assert find_again(before[2], fresh) == fresh[1]


def test_id_decides_over_path_and_position() -> None:
    """A deliverable with an id that is not in the list any more is not recognised."""
    before = twins(3, ids=True)
    fresh = renewed([before[2], before[0]])
    assert [find_again(file, fresh) for file in before] == [fresh[1], None, fresh[0]]


def test_path_does_not_count_if_the_file_has_another_name() -> None:
    before = with_listing([Deliverable("Video", f"{HOST}/a", file_name="a.mp4")])
    assert find_again(before[0], with_listing([Deliverable("Video", f"{HOST}/a", file_name="b.mp4")])) is None


def test_deliverable_that_the_caller_made_is_recognised_by_its_path_only() -> None:
    """Nothing is known of the list that it comes from."""
    fresh = renewed(twins(1))
    assert find_again(Deliverable("Video", f"{HOST}/0?sig=old"), fresh) == fresh[0]
    assert find_again(Deliverable("Video", f"{HOST}/1?sig=old"), fresh) is None


@given(count=st.integers(1, 6), ids=st.booleans(), keeps_paths=st.booleans(), seed=st.integers(0, 99))
def test_recognised_deliverable_is_the_same_file(
    *, count: int, ids: bool, keeps_paths: bool, seed: int
) -> None:
    """Whatever was added, removed and reordered, as long as an id or a path shows which file is which."""
    random = Random(seed)
    before = twins(count, ids=ids)
    others = [
        Deliverable("Video", f"{HOST}/other-{n}?sig=old", id=f"new-{n}" if ids else None) for n in (1, 2)
    ]
    rest = random.sample([*before[1:], *others], k=random.randint(0, count + 1))
    fresh = random.sample(
        [before[0], *rest], k=len(rest) + 1
    )  # without ids one path has to show that paths stay
    listed = renewed(fresh, (lambda url: url) if keeps_paths or not ids else move)
    for file in before:
        expected = listed[fresh.index(file)] if file in fresh else None
        assert find_again(file, listed) == expected
