"""The ZIP reader: what other writers write is read, and no byte more than was declared."""

import io
import random
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.archive import ArchiveRefused, Limits
from ingest.members import Entry, read_member
from ingest.zipreader import read_entries
from tests.zipwriter import Member, deflate, unicode_path, write_zip

SMALL = Limits(archive_bytes=10_000_000)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\:\0"), min_size=1, max_size=40)


class Unseekable(io.RawIOBase):
    """A sink like a pipe: a writer to it has to use data descriptors."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        assert isinstance(data, bytes)
        self.content += data
        return len(data)


def _read_all(content: bytes) -> dict[str, bytes]:
    file = io.BytesIO(content)
    entries = read_entries(file, SMALL)
    return {entry.name: b"".join(read_member(file, entry)) for entry in entries}


def _entry(path: Path, member: Member) -> tuple[io.BytesIO, Entry]:
    file = io.BytesIO(write_zip(path, [member]).read_bytes())
    return file, read_entries(file, SMALL)[0]


@given(
    files=st.dictionaries(
        NAMES.filter(lambda name: not name.startswith("..")), st.binary(max_size=500), max_size=5
    ),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    piped=st.booleans(),
    zip64=st.booleans(),
    comment=st.binary(max_size=20).filter(lambda comment: b"PK" not in comment),
)
def test_what_zipfile_writes_is_read(
    files: dict[str, bytes], method: int, piped: bool, zip64: bool, comment: bytes
) -> None:
    names = [name.casefold() for name in files]
    sink = Unseekable() if piped else io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for number, (name, data) in enumerate(files.items()):
            with archive.open(f"{number} {name}", "w", force_zip64=zip64) as entry:
                entry.write(data)
        archive.comment = comment
    content = sink.content if isinstance(sink, Unseekable) else sink.getvalue()
    expected = {f"{number} {name}": data for number, (name, data) in enumerate(files.items())}
    assert _read_all(content) == expected
    assert len(names) == len(expected)


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ArchiveRefused):
        read_entries(io.BytesIO(noise), SMALL)


def test_chunks_stay_small(tmp_path: Path) -> None:
    data = bytes(5_000_000)
    file, entry = _entry(tmp_path / "a.zip", Member("zeros", data))
    chunks = list(read_member(file, entry))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 64 * 1024


def test_no_byte_beyond_the_declared_size_is_given_out(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(10_000)
    file, entry = _entry(tmp_path / "a.zip", Member("a", data, size=1000))
    chunks = read_member(file, entry)
    assert next(chunks) == data[:1000]
    with pytest.raises(ArchiveRefused, match="longer_than_declared"):
        next(chunks)


def test_a_bomb_is_not_inflated_to_its_end(tmp_path: Path) -> None:
    payload = deflate(bytes(50_000_000))
    member = Member("a", size=1000, crc=1, payload=payload)
    file, entry = _entry(tmp_path / "a.zip", member)
    with pytest.raises(ArchiveRefused, match="zip_bomb") as refused:
        list(read_member(file, entry))
    assert refused.value.malicious
    assert file.tell() <= entry.start + 64 * 1024


@pytest.mark.parametrize(
    ("name", "decoded"),
    [
        ("a/./b.jpg", "a/./b.jpg"),
        ("Wait...what.jpg", "Wait...what.jpg"),
        ("K: the story/1.jpg", "K: the story/1.jpg"),
        ("X:1999 - 001.jpg", "X:1999 - 001.jpg"),
        ("K:Return/001.jpg", "K:Return/001.jpg"),
        ("表.jpg".encode("cp932"), "表.jpg"),
        (b"\x80\x81.jpg", "Çü.jpg"),
    ],
)
def test_honest_names_are_decoded(name: str | bytes, decoded: str, tmp_path: Path) -> None:
    _, entry = _entry(tmp_path / "a.zip", Member(name, b"1"))
    assert entry.name == decoded


def test_a_unicode_path_cannot_leave_the_archive(tmp_path: Path) -> None:
    member = Member("a.jpg", b"1", central_extra=unicode_path(b"a.jpg", b"../../a.jpg"))
    with pytest.raises(ArchiveRefused, match="path_traversal"):
        _entry(tmp_path / "a.zip", member)


def test_one_shared_header_is_no_proof_of_malice(tmp_path: Path) -> None:
    members = [Member("a.jpg", b"1"), Member("b.jpg", b"1", header=0)]
    with pytest.raises(ArchiveRefused, match="overlapping_entries") as refused:
        read_entries(io.BytesIO(write_zip(tmp_path / "a.zip", members).read_bytes()), SMALL)
    assert not refused.value.malicious
