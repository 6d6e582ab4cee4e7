"""Files on their way in: streamed to the disk, counted and hashed, never held in memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Self

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from api.errors import AnyRequest, Refusal, invalid
from ingest.blobs import SourceUnreadable

MAX_ARCHIVE_BYTES = 500 * 1024 * 1024
MAX_FIELD_BYTES = 4_096
MAX_FIELDS = 10

ARCHIVE = "archive"
"""The part of a form that is a chapter's file."""

_WRITE_BYTES = 1024 * 1024


class IncomingFile:
    """A file that grows as it arrives, and is gone when it is left.

    `name` is what it is called in a form, and where something is wrong with it.
    """

    def __init__(self, folder: Path, name: str = ARCHIVE, limit: int = MAX_ARCHIVE_BYTES) -> None:
        self.name = name
        self._limit = limit
        try:
            self._file = NamedTemporaryFile(dir=folder, prefix="upload-")  # noqa: SIM115 see __exit__
        except FileNotFoundError as error:  # a site that starts anew has just swept the folder
            raise SourceUnreadable(str(folder)) from error
        self._pending = bytearray()
        self._hash = hashlib.sha256()
        self.path = Path(self._file.name)
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(FileNotFoundError):  # swept already
            self._file.close()

    @property
    def sha256(self) -> str:
        """The digest of everything written; call `finish` first."""
        return self._hash.hexdigest()

    async def write(self, chunk: bytes | bytearray) -> None:
        """Take a chunk; refuses the byte that passes the limit."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise Refusal(413, "too_large", details={"limit": self._limit})
        self._pending += chunk
        if len(self._pending) >= _WRITE_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """Write what is left; a file of no bytes is refused."""
        await self._flush()
        if self.size == 0:
            raise invalid(self.name, "value_missing")

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        await asyncio.to_thread(self._write, pending)

    def _write(self, pending: bytearray) -> None:
        self._hash.update(pending)
        self._file.write(pending)
        self._file.flush()


def announced_bytes(request: AnyRequest, limit: int) -> int:
    """How long a body says it is; refuses one that no file within the limit would make so long."""
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdecimal() else 0
    if announced > 2 * limit:
        raise Refusal(413, "too_large", details={"limit": limit})
    return announced


async def receive_body(stream: AsyncIterator[bytes], file: IncomingFile) -> None:
    """Take a request's whole body as the file."""
    async for chunk in stream:
        await file.write(chunk)
    await file.finish()


async def receive_form(
    stream: AsyncIterator[bytes], boundary: str, file: IncomingFile
) -> dict[str, str]:
    """Take a multipart form: the part of its name as the file, every other part as a field."""
    form = _Form(file)
    try:
        with PushMultipartParser(boundary, max_segment_count=MAX_FIELDS, strict=True) as parser:
            async for chunk in stream:
                for event in parser.parse(chunk):
                    await form.take(event)
                if parser.closed:
                    break
    except MultipartError as error:
        raise Refusal(400, "malformed", details={"problem": str(error.args[0])}) from error
    if file.name not in form.seen:
        raise invalid(file.name, "value_missing")
    await file.finish()
    return {name: _text(name, value) for name, value in form.fields.items()}


class _Form:
    """A multipart form being read, part by part."""

    def __init__(self, file: IncomingFile) -> None:
        self._file = file
        self._name = ""
        self.seen: set[str] = set()
        self.fields: dict[str, bytearray] = {}

    async def take(self, event: MultipartSegment | bytearray | bytes | None) -> None:
        """A part's beginning, some of its bytes, or its end."""
        if isinstance(event, MultipartSegment):
            self._begin(event.name or "")
        elif event is not None and self._name == self._file.name:
            await self._file.write(event)
        elif event is not None:
            field = self.fields[self._name]
            field += event
            if len(field) > MAX_FIELD_BYTES:
                raise invalid(self._name, "value_too_long", str(MAX_FIELD_BYTES))

    def _begin(self, name: str) -> None:
        if name in self.seen:
            raise invalid(name, "value_repeated")
        self.seen.add(name)
        self._name = name
        if name != self._file.name:
            self.fields[name] = bytearray()


def _text(name: str, value: bytearray) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise invalid(name, "value_not_a_text") from error
    if "\0" in text:
        raise invalid(name, "value_not_a_text")
    return text
