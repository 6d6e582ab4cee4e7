"""Whole archives: the honest ones become chapters, the hostile ones are refused by name."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ingest.archive import ArchiveRefused, Limits, PreparedChapter, prepare_chapter
from ingest.images import DecodedImage, DecoderPool, Drawing
from tests.archives import HONEST, HOSTILE, STRIPS, large_chapter
from tests.drawings import pages
from tests.zipwriter import Member, write_zip

MIB = 1024 * 1024
NOTES = {
    "plain numbers": [("unusual_start", "0.jpeg")],
    "natural order": [("page_gap", "page 10.jpg")],
    "spread": [("unusual_start", "003.jpg"), ("page_range", "004-005.jpg")],
    "gap": [("page_gap", "007.jpg")],
    "other start": [("unusual_start", "017.jpg")],
    "credits": [("credits_page", "!001.jpg")],
    "dots in a name": [("unnumbered_page", "Wait...what.jpg")],
    "other files": [("discarded_file", "read me.txt")],
    "ComicInfo.xml": [],
    "cp932 names": [],
}
NAMES = {
    "plain numbers": [f"{number}.jpeg" for number in range(11)],
    "natural order": ["page 1.jpg", "page 2.jpg", "page 10.jpg"],
    "credits": ["!001.jpg", "001.jpg", "002.jpg"],
    "__MACOSX": ["001.jpg", "002.jpg"],
    "._ files": ["001.jpg", "002.jpg"],
    "cp932 names": ["表紙001.jpg", "表紙002.jpg"],
    "Unicode path field": ["第1.jpg", "第2.jpg"],
    "directory records": ["Series/Chapter 1/1.jpg", "Series/Chapter 1/2.jpg"],
}


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool() as pool:
        yield pool


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def _prepare(name: str, tmp_path: Path, workdir: Path, pool: DecoderPool) -> PreparedChapter:
    return prepare_chapter(HONEST[name](tmp_path / "chapter.zip"), workdir, pool)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_archive_becomes_a_chapter(
    name: str, tmp_path: Path, workdir: Path, decoders: DecoderPool
) -> None:
    chapter = _prepare(name, tmp_path, workdir, decoders)
    assert [page.number for page in chapter.pages] == list(range(1, len(chapter.pages) + 1))
    assert len(chapter.pages) >= 2
    for page in chapter.pages:
        content, thumbnail = page.path.read_bytes(), page.thumbnail_path.read_bytes()
        assert (page.bytes, page.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert page.thumbnail_bytes == len(thumbnail)
        assert page.thumbnail_sha256 == hashlib.sha256(thumbnail).hexdigest()
        with Image.open(page.path) as image:
            assert image.size == (page.width, page.height)
            assert f"image/{(image.format or '').lower()}" == page.media_type
        with Image.open(page.thumbnail_path, formats=["WEBP"]) as image:
            assert image.width <= 320
            assert image.height <= 480
    made = {path for page in chapter.pages for path in (page.path, page.thumbnail_path)}
    assert set(workdir.iterdir()) == made


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused(
    name: str, tmp_path: Path, workdir: Path, decoders: DecoderPool
) -> None:
    build, code, malicious = HOSTILE[name]
    with pytest.raises(ArchiveRefused) as refused:
        prepare_chapter(build(tmp_path / "chapter.zip"), workdir, decoders)
    assert [finding.code for finding in refused.value.findings] == [code]
    assert refused.value.malicious is malicious
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_pages_are_in_reading_order(
    name: str, tmp_path: Path, workdir: Path, decoders: DecoderPool
) -> None:
    chapter = _prepare(name, tmp_path, workdir, decoders)
    assert [page.name for page in chapter.pages] == NAMES[name]


@pytest.mark.parametrize("name", NOTES)
def test_the_reviewer_is_told_what_is_odd(
    name: str, tmp_path: Path, workdir: Path, decoders: DecoderPool
) -> None:
    chapter = _prepare(name, tmp_path, workdir, decoders)
    assert [(note.code, note.entry) for note in chapter.notes] == NOTES[name]


def test_the_first_bad_byte_ends_the_work(tmp_path: Path, workdir: Path) -> None:
    decoded: list[Path] = []

    class Recorder(DecoderPool):
        def decode(self, path: Path, drawing: Drawing = "thumbnail") -> Future[DecodedImage]:
            decoded.append(path)
            return super().decode(path, drawing)

    members = pages(*(f"{number:02}.jpg" for number in range(1, 31)))
    members[2] = Member("03.jpg", members[2].data, crc=1)
    with Recorder() as pool, pytest.raises(ArchiveRefused, match="crc_mismatch"):
        prepare_chapter(write_zip(tmp_path / "chapter.zip", members), workdir, pool)
    assert [path.name for path in decoded] == ["0001.jpg", "0002.jpg"]


def test_nothing_is_left_after_any_other_failure(tmp_path: Path, workdir: Path) -> None:
    pool = DecoderPool()
    pool.close()
    with pytest.raises(RuntimeError):
        _prepare("credits", tmp_path, workdir, pool)
    assert list(workdir.iterdir()) == []


def test_files_of_others_stay(tmp_path: Path, workdir: Path, decoders: DecoderPool) -> None:
    stranger = workdir / "0002.jpg"
    stranger.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        _prepare("credits", tmp_path, workdir, decoders)
    assert list(workdir.iterdir()) == [stranger]
    assert stranger.read_bytes() == b"mine"


def test_limits_can_be_tightened(tmp_path: Path, workdir: Path, decoders: DecoderPool) -> None:
    archive = HONEST["credits"](tmp_path / "chapter.zip")
    for limits, code in (
        (Limits(archive_bytes=100), "archive_too_large"),
        (Limits(entries=2), "too_many_entries"),
        (Limits(inflated_bytes=1000), "inflates_too_large"),
        (Limits(page_bytes=1000), "page_too_large"),
    ):
        with pytest.raises(ArchiveRefused, match=code):
            prepare_chapter(archive, workdir, decoders, limits)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes_give_a_chapter_or_a_refusal(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, decoders: DecoderPool
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    workdir = folder / "work"
    workdir.mkdir()
    name = data.draw(st.sampled_from(["comment", "Zip64", "data descriptors", "cp932 names"]))
    archive = HONEST[name](folder / "chapter.zip")
    content = bytearray(archive.read_bytes())
    from_end = st.integers(-min(400, len(content)), -1)
    places = data.draw(
        st.lists(from_end | st.integers(0, len(content) - 1), min_size=1, max_size=3)
    )
    for place in places:
        content[place] ^= data.draw(st.integers(1, 255))
    archive.write_bytes(content)
    try:
        left = len(prepare_chapter(archive, workdir, decoders).pages)
    except ArchiveRefused:
        left = 0
    assert left in (0, 2)
    assert len(list(workdir.iterdir())) == 2 * left


def _above_idle(tmp_path: Path, archives: list[Path]) -> dict[str, dict[str, int | bool]]:
    warm_up = HONEST["plain numbers"](tmp_path / "warm-up.zip")
    command = [sys.executable, "-m", "tests.memory_probe", tmp_path / "probe", warm_up, *archives]
    answer = subprocess.run(command, check=True, capture_output=True)
    return json.loads(answer.stdout)


def test_hostile_archives_stay_under_128_megabytes(tmp_path: Path) -> None:
    archives = [build(tmp_path / f"{name}.zip") for name, (build, _, _) in HOSTILE.items()]
    measured = _above_idle(tmp_path, archives)
    assert len(measured) == len(HOSTILE)
    assert not any(figures["accepted"] for figures in measured.values())
    assert {name: n for name, f in measured.items() if (n := f["above_idle"]) >= 128 * MIB} == {}


def test_an_honest_archive_of_500_megabytes_stays_under_128(tmp_path: Path) -> None:
    archive = large_chapter(tmp_path / "large.zip")
    assert 480 * MIB < archive.stat().st_size < 500 * MIB
    figures = _above_idle(tmp_path, [archive])["large.zip"]
    assert figures["accepted"]
    assert figures["above_idle"] < 128 * MIB


def test_honest_strips_of_every_format_stay_under_128_megabytes(tmp_path: Path) -> None:
    archives = [build(tmp_path / f"{name}.zip") for name, build in STRIPS.items()]
    measured = _above_idle(tmp_path, archives)
    assert len(measured) == len(STRIPS)
    assert all(figures["accepted"] for figures in measured.values())
    most = {name: figures["together_above_idle"] for name, figures in measured.items()}
    assert {name: n for name, n in most.items() if n >= 128 * MIB} == {}
