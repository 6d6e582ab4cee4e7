"""Images from outside: what they are by content, and their decoding in processes of their own."""

import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Condition
from typing import Literal, Self

import msgspec
from msgspec import Struct

from ingest.limits import MIB

SNIFFED_BYTES = 512
"""How much of a file's start is enough to tell its type."""

STRIP_PIXELS = 800 * 15_000
"""A webtoon strip; as many pixels are accepted in every format, unless they are animated."""

_ARCHIVES = (b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"Rar!\x1a\7", b"7z\xbc\xaf\x27\x1c",
             b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"MSCF")  # fmt: skip
_EXECUTABLES = (b"\x7fELF", b"MZ", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe",
                b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!/", b"#! /")  # fmt: skip
_PNG = b"\x89PNG\r\n\x1a\n"
_IMAGES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (_PNG, "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)

_STRIP_MEMORY = 128 * MIB  # of one image of a strip's pixels
_DECODE_MEMORY = 96 * MIB  # of one image beyond them: 4000 x 6000 in colour
_SHARED_MEMORY = 112 * MIB  # of all images that are being decoded
_BOMB_FILE = MIB  # a smaller file that inflates beyond the next was made to flood
_BOMB_BYTES = 512 * MIB
_INFLATED_AT_ONCE = 256 * 1024
_START_SECONDS = 60  # a loaded machine may take a while to start a decoder
_GRACE_SECONDS = 5  # a decoder ends itself only when nobody does it
_INSTANT = 0.001  # a timeout of 0 would mean something else
_FRAME = struct.Struct(">II")
_MESSAGE_BYTES = 64 * 1024
_DRAWING_BYTES = 2 * MIB

Drawing = Literal["thumbnail", "avatar", "logo"]
"""What a decoder makes of an image; of a thumbnail's strip the top, of an avatar's the middle."""


class ImageRefused(Exception):
    """An image is not accepted: a stable code, a detail for people, whether harm was intended."""

    def __init__(self, code: str, detail: str, *, malicious: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.malicious = malicious


class DecodedImage(Struct, frozen=True):
    """An image that decodes in full: its true type, its size as seen, and it drawn as WebP."""

    media_type: str
    width: int
    height: int
    drawing: bytes


class _Reply(Struct, frozen=True):
    media_type: str = ""
    width: int = 0
    height: int = 0
    memory: int = 0
    error: str = ""
    detail: str = ""


def sniff(head: bytes) -> str:
    """Tell a file by its first bytes: a media type, `archive`, `executable` or `unknown`."""
    for magic, media_type in _IMAGES:
        if head.startswith(magic):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        brands = head[8 : int.from_bytes(head[:4])]
        return "image/avif" if b"avif" in brands or b"avis" in brands else "unknown"
    if head.startswith(_ARCHIVES):
        return "archive"
    return "executable" if head.startswith(_EXECUTABLES) else "unknown"


class DecoderPool:
    """Long-lived decoder processes; a process that dies, hangs or overeats is replaced.

    `seconds` bounds the opening and the decoding of one image each. Safe to share between threads.
    """

    def __init__(self, decoders: int = 2, seconds: int = 20) -> None:
        self.size = decoders
        self._memory = MemoryBudget(_SHARED_MEMORY)
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="decoder")
        self._idle: SimpleQueue[_Decoder] = SimpleQueue()
        self._decoders = [_Decoder(seconds) for _ in range(decoders)]
        for decoder in self._decoders:
            self._idle.put(decoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, path: Path, drawing: Drawing = "thumbnail") -> Future[DecodedImage]:
        """Decode a file in full and draw it anew; the future may hold ImageRefused."""
        return self._threads.submit(self._decode, path, drawing)

    def processes(self) -> list[int]:
        """Tell the process ids of the decoders, for measurements."""
        return [decoder.pid for decoder in self._decoders]

    def close(self) -> None:
        """End all decoders; what is still being decoded is refused."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for decoder in self._decoders:
            decoder.kill()
        self._threads.shutdown()
        for decoder in self._decoders:
            decoder.close()

    def _decode(self, path: Path, drawing: Drawing) -> DecodedImage:
        decoder = self._idle.get()
        try:
            return decoder.decode(path, drawing, self._memory)
        finally:
            self._idle.put(decoder)


class MemoryBudget:
    """A sum of bytes that work going on at the same time has to share."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = Condition()

    @contextmanager
    def reserved(self, amount: int) -> Generator[None]:
        """Hold an amount, waiting until it is free; more than all of it waits to be alone."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


class _Decoder:
    """One decoder process and the conversation with it (see `ingest.decoder`)."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def decode(self, path: Path, drawing: Drawing, budget: MemoryBudget) -> DecodedImage:
        if self._process.poll() is not None:
            self.close()
            self._start()
        if not self._ready:
            self._receive(path, _START_SECONDS)
            self._ready = True
        self._send({"path": str(path), "drawing": drawing})
        header, _ = self._receive(path, self._seconds)
        strip = header.width * header.height <= STRIP_PIXELS
        if header.memory > (_STRIP_MEMORY if strip else _DECODE_MEMORY):
            self._send({"memory": 0})
            raise ImageRefused("image_too_large", f"{header.width} x {header.height} pixels")
        with budget.reserved(header.memory):
            self._send({"memory": header.memory})
            seen, drawn = self._receive(path, self._seconds)
        return DecodedImage(header.media_type, seen.width, seen.height, drawn)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._socket.close()

    def _start(self) -> None:
        self._ready = False
        program = Path(__file__).with_name("decoder.py")
        self._socket, far_end = socket.socketpair()
        with far_end:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(program), str(self._seconds + _GRACE_SECONDS)],
                stdin=far_end.fileno(),
                stdout=far_end.fileno(),
                stderr=subprocess.DEVNULL,
            )

    def _send(self, message: dict[str, str | int]) -> None:
        try:
            self._socket.sendall(msgspec.json.encode(message) + b"\n")
        except ConnectionError as error:
            raise self._died() from error

    def _receive(self, path: Path, seconds: int) -> tuple[_Reply, bytes]:
        deadline = time.monotonic() + seconds
        text_bytes, body_bytes = _FRAME.unpack(self._read(_FRAME.size, deadline))
        if text_bytes > _MESSAGE_BYTES or body_bytes > _DRAWING_BYTES:
            raise self._died()
        try:
            reply = msgspec.json.decode(self._read(text_bytes, deadline), type=_Reply)
        except msgspec.MsgspecError as error:
            raise self._died() from error
        if reply.error:
            raise _refusal(reply, path)
        return reply, self._read(body_bytes, deadline)

    def _read(self, length: int, deadline: float) -> bytes:
        data = b""
        try:
            while len(data) < length:
                self._socket.settimeout(max(_INSTANT, deadline - time.monotonic()))
                chunk = self._socket.recv(length - len(data))
                if not chunk:
                    raise self._died()
                data += chunk
        except TimeoutError as error:
            self.kill()
            raise ImageRefused("decoder_timeout", "it takes too long") from error
        except ConnectionError as error:
            raise self._died() from error
        return data

    def _died(self) -> ImageRefused:
        self.kill()
        return ImageRefused("decoder_died", f"exit status {self._process.returncode}")


def _refusal(reply: _Reply, path: Path) -> ImageRefused:
    match reply.error:
        case "too_many_pixels" if _is_bomb(path):
            return ImageRefused("image_bomb", reply.detail, malicious=True)
        case "too_many_pixels":
            return ImageRefused("image_too_large", reply.detail)
        case "out_of_memory":
            return ImageRefused("decoder_out_of_memory", reply.detail)
        case _:
            return ImageRefused("undecodable_image", reply.detail)


def _is_bomb(path: Path) -> bool:
    """Tell whether a small PNG really inflates to a flood; what a header claims proves nothing."""
    if path.stat().st_size >= _BOMB_FILE:
        return False
    content = path.read_bytes()
    if not content.startswith(_PNG):
        return False
    stream, data, total = zlib.decompressobj(), _png_data(content), 0
    try:
        while data and total <= _BOMB_BYTES:
            total += len(stream.decompress(data, _INFLATED_AT_ONCE))
            data = stream.unconsumed_tail
    except zlib.error:
        pass
    return total > _BOMB_BYTES


def _png_data(content: bytes) -> bytes:
    """Join the compressed data of a PNG, which may lie in many chunks."""
    data, at = bytearray(), len(_PNG)
    while at < len(content):
        length = int.from_bytes(content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            data += content[at + 8 : at + 8 + length]
        at += length + 12
    return bytes(data)
