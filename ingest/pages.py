"""Which entries of an archive are pages, and in which order they are read."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from ingest.refusal import ArchiveRefused, Finding, refusal

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpe": "image/jpeg",
    ".jfif": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".gif": "image/gif",
}
"""What an extension, in lower case, promises."""

_SYSTEM_FILES = {".ds_store", "thumbs.db", "desktop.ini", "comicinfo.xml"}
_TOKEN = re.compile(r"\d+|\D")
_SPREAD = re.compile(r"(?<!\d)(\d+)[-_+](\d+)(?!\d)")
_NUMBER = re.compile(r"\d+")


class Arrangement(NamedTuple):
    """The pages in reading order, by their place among the names, and notes to the reviewer."""

    pages: tuple[int, ...]
    notes: tuple[Finding, ...]


def natural_key(stem: str) -> tuple[tuple[str, int], ...]:
    """Order names as people do: `page 2` before `page 10`, and `!001` before `001`."""
    folded = unicodedata.normalize("NFKC", stem).casefold()
    return tuple(
        ("0", int(token)) if token.isdecimal() else (token, 0) for token in _TOKEN.findall(folded)
    )


def media_type_of(name: str) -> str | None:
    """Tell the image type that a name promises, if it promises one."""
    return MEDIA_TYPES.get(PurePosixPath(name).suffix.lower())


def arrange(names: Sequence[str]) -> Arrangement:
    """Choose the pages among the names of an archive's entries and put them in reading order.

    Raises ArchiveRefused when there are none, when they lie in several folders, or when two of them
    claim the same place.
    """
    notes: list[Finding] = []
    pages: list[tuple[int, PurePosixPath]] = []
    for index, name in enumerate(names):
        if name.endswith("/") or _is_system_file(name):
            continue
        if media_type_of(name):
            pages.append((index, PurePosixPath(name)))
        else:
            notes.append(Finding("discarded_file", "Left out: it is not an image.", name))
    if not pages:
        raise refusal("no_pages", "the archive holds no images")
    _refuse_several_folders([path for _, path in pages])
    pages.sort(key=lambda page: natural_key(page[1].stem))
    ordered = [path for _, path in pages]
    _refuse_duplicates(ordered)
    return Arrangement(tuple(index for index, _ in pages), (*notes, *_number_notes(ordered)))


def _is_system_file(name: str) -> bool:
    path = PurePosixPath(name)
    system_folder = "__MACOSX" in path.parent.parts
    return system_folder or path.name.startswith("._") or path.name.lower() in _SYSTEM_FILES


def _refuse_several_folders(paths: list[PurePosixPath]) -> None:
    folders = sorted({str(path.parent) for path in paths})
    if len(folders) > 1:
        raise refusal("several_folders", f"{len(folders)} folders, such as {folders[0]}")


def _refuse_duplicates(ordered: list[PurePosixPath]) -> None:
    duplicates = [
        Finding("duplicate_page", f"The same page as {first.name}; remove one.", str(second))
        for first, second in pairwise(ordered)
        if natural_key(first.stem) == natural_key(second.stem)
    ]
    if duplicates:
        raise ArchiveRefused(*duplicates)


def _number_notes(ordered: list[PurePosixPath]) -> list[Finding]:
    """Say what is odd about the numbers in the names; the names decide the order all the same."""
    notes: list[Finding] = []
    spreads = {path: match for path in ordered if (match := _SPREAD.search(path.stem))}
    first_numbers = {match[1] for match in spreads.values()}
    if len(spreads) > 1 and len(first_numbers) == 1:
        spreads.clear()  # "ch012-001", "ch012-002": a chapter number, not a range
    previous: int | None = None
    for path in ordered:
        entry = str(path)
        numbers = _NUMBER.findall(path.stem)
        if path.name.startswith("!"):
            notes.append(Finding("credits_page", "Put before the first page.", entry))
            continue
        if not numbers:
            notes.append(Finding("unnumbered_page", "Without a number: placed by its name.", entry))
            continue
        first = last = int(numbers[-1])
        if path in spreads and len(spreads[path][1]) == len(spreads[path][2]):
            first, last = int(spreads[path][1]), int(spreads[path][2])
            notes.append(Finding("page_range", f"Pages {first} to {last} in one image.", entry))
        notes.extend(_sequence_notes(previous, first, entry))
        previous = last
    return notes


def _sequence_notes(previous: int | None, number: int, entry: str) -> list[Finding]:
    if previous is None:
        odd_start = Finding("unusual_start", f"The first page has the number {number}.", entry)
        return [odd_start] if number != 1 else []
    if number > previous + 1:
        missing = f"{previous + 1}" if number == previous + 2 else f"{previous + 1} to {number - 1}"
        return [Finding("page_gap", f"Missing before this page: {missing}.", entry)]
    if number < previous:
        return [Finding("number_falls", f"Page {number} comes after page {previous}.", entry)]
    return []
