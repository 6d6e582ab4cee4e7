"""Which names are pages, and in which order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.archive import ArchiveRefused
from ingest.pages import arrange, natural_key

STEMS = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=12)


def _order(*names: str) -> list[str]:
    return [names[index] for index in arrange(names).pages]


def _notes(*names: str) -> list[tuple[str, str]]:
    return [(note.code, note.detail) for note in arrange(names).notes]


@given(
    prefix=st.text("abcXYZ -_.!#", max_size=6),
    numbers=st.sets(st.integers(0, 10**6), min_size=1, max_size=30),
    width=st.integers(0, 4),
    seed=st.randoms(use_true_random=False),
)
def test_numbers_are_ordered_as_numbers(
    prefix: str, numbers: set[int], width: int, seed: random.Random
) -> None:
    ordered = [f"p{prefix}{number:0{width}}.png" for number in sorted(numbers)]
    shuffled = seed.sample(ordered, len(ordered))
    assert _order(*shuffled) == ordered


@given(STEMS, STEMS, STEMS)
def test_the_order_is_total(one: str, two: str, three: str) -> None:
    first, second, third = sorted(map(natural_key, (one, two, three)))
    assert first <= second <= third
    assert first <= third


@given(STEMS, st.integers(0, 9999), st.integers(1, 4))
def test_leading_zeros_do_not_matter(stem: str, number: int, zeros: int) -> None:
    assert natural_key(f"{stem}-{number}") == natural_key(f"{stem}-{'0' * zeros}{number}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("page 2", "page 10"),
        ("!001", "001"),
        ("001", "a01"),
        ("p00a", "p00b"),
        ("Vol.1 Ch.2 - 003", "Vol.1 Ch.10 - 001"),
        ("第2話", "第10話"),
        ("\uff12", "10"),
        ("1", "1a"),
    ],
)
def test_names_are_ordered_as_people_do(first: str, second: str) -> None:
    assert natural_key(first) < natural_key(second)


def test_the_order_of_the_archive_does_not_matter() -> None:
    assert _order("b/2.jpg", "b/10.jpg", "b/1.jpg") == ["b/1.jpg", "b/2.jpg", "b/10.jpg"]


@pytest.mark.parametrize(
    "junk",
    ["__MACOSX/._1.jpg", "x/__MACOSX/1.jpg", "._1.jpg", "a/._1.jpg", ".DS_Store", "Thumbs.db",
     "a/thumbs.db", "ComicInfo.xml", "desktop.ini", "folder.jpg/"],
)  # fmt: skip
def test_system_files_go_without_a_word(junk: str) -> None:
    arrangement = arrange(["a/1.jpg", junk])
    assert arrangement.pages == (0,)
    assert arrangement.notes == ()


@pytest.mark.parametrize("name", ["read me.txt", "page", "scan.bmp", "a/b.psd", ".", ".jpg"])
def test_other_files_are_mentioned(name: str) -> None:
    assert _notes("1.jpg", name) == [("discarded_file", "Left out: it is not an image.")]


@pytest.mark.parametrize(
    ("names", "notes"),
    [
        (["1.jpg", "2.jpg"], []),
        (["1.jpg", "3.jpg"], [("page_gap", "Missing before this page: 2.")]),
        (["1.jpg", "5.jpg"], [("page_gap", "Missing before this page: 2 to 4.")]),
        (["0.jpg", "1.jpg"], [("unusual_start", "The first page has the number 0.")]),
        (["1.jpg", "02-03.jpg", "4.jpg"], [("page_range", "Pages 2 to 3 in one image.")]),
        (["c12-001.jpg", "c12-002.jpg"], []),
        (["c012-001.jpg", "c012-002.jpg"], []),
        (["a2.jpg", "b1.jpg"], [("unusual_start", "The first page has the number 2."),
                                ("number_falls", "Page 1 comes after page 2.")]),
        (["01a.jpg", "01b.jpg"], []),
        (["!1.jpg", "1.jpg"], [("credits_page", "Put before the first page.")]),
        (["1.jpg", "end.jpg"], [("unnumbered_page", "Without a number: placed by its name.")]),
    ],
)  # fmt: skip
def test_odd_numbers_are_noted(names: list[str], notes: list[tuple[str, str]]) -> None:
    assert _notes(*names) == notes


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([], "no_pages"),
        (["a.txt", "__MACOSX/._1.jpg"], "no_pages"),
        (["1.jpg", "a/2.jpg"], "several_folders"),
        (["a/1.jpg", "b/2.jpg"], "several_folders"),
        (["1.jpg", "1.png"], "duplicate_page"),
        (["01.jpg", "1.jpg"], "duplicate_page"),
        (["\uff11.jpg", "1.jpg"], "duplicate_page"),
    ],
)
def test_what_cannot_be_a_chapter_is_refused(names: list[str], code: str) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        arrange(names)
    assert {finding.code for finding in refused.value.findings} == {code}
    assert not refused.value.malicious


def test_every_duplicate_is_reported() -> None:
    with pytest.raises(ArchiveRefused) as refused:
        arrange(["1.jpg", "01.jpg", "2.jpg", "02.jpg"])
    assert [finding.entry for finding in refused.value.findings] == ["01.jpg", "02.jpg"]
