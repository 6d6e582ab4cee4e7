"""A lean HTTP client: requests made beforehand, sent over connections that stay open."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from itertools import count, cycle
from typing import Any, Self

import uvloop
from msgspec import Struct, json

HOST = "127.0.0.1"
CONNECTIONS = 64

NUMBER = "<number of 19 digit"
"""Where a request says this, each sending has another number."""

SUCCESS = (b"HTTP/1.1 200", b"HTTP/1.1 201")


class Unexpected(Exception):
    """The server answered something else than success."""


class Answer(Struct, frozen=True):
    """What came back."""

    head: bytes
    body: bytes

    def header(self, name: bytes) -> bytes:
        """A header's value."""
        return _field(self.head, name)


class Connection(asyncio.Protocol):
    """A connection with one request under way at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._length = 0
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answer.cancel()  # nobody has asked yet

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to the port."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        return connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        """Send a request; the future holds its answer, or Unexpected."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():  # which would swallow the request
            self.connection_lost(None)
        else:
            self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length:
            self._body = self._received.find(b"\r\n\r\n") + 4
            if self._body < 4:
                return
            self._length = self._body + int(_field(self._received, b"content-length"))
        if len(self._received) >= self._length:
            received, self._received, self._length = self._received, b"", 0
            if received.startswith(SUCCESS):
                self._answer.set_result(Answer(received[: self._body], received[self._body :]))
            else:
                self._answer.set_exception(Unexpected(received.decode()))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(Unexpected("the connection was closed"))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _field(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n%b: " % name)[2].partition(b"\r\n")[0]


def request(method: str, path: str, *headers: str, body: Any = None) -> bytes:
    """A request as it is sent."""
    content = b"" if body is None else json.encode(body)
    if body is not None:
        headers = (*headers, "content-type: application/json", f"content-length: {len(content)}")
    lines = (f"{method} {path} HTTP/1.1", f"host: {HOST}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def fetch(port: int, asking: bytes) -> bytes:
    """The body of one answer."""
    connection = await Connection.open(port)
    answer = await connection.ask(asking)
    connection.close()
    return answer.body


def answers_per_second(port: int, requests: Sequence[bytes], seconds: float) -> float:
    """How many requests are answered while every connection is kept busy with them in turn."""
    return uvloop.run(_saturate(port, requests, seconds))


async def _saturate(port: int, requests: Sequence[bytes], seconds: float) -> float:
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
    turns, numbers, token = cycle(requests), count(time.time_ns()), NUMBER.encode()
    begun = time.perf_counter()

    async def work(connection: Connection) -> int:
        answered = 0
        while time.perf_counter() < begun + seconds:
            await connection.ask(next(turns).replace(token, b"%d" % next(numbers)))
            answered += 1
        return answered

    answered = sum(await asyncio.gather(*map(work, connections)))
    taken = time.perf_counter() - begun
    for connection in connections:
        connection.close()
    return answered / taken


def delays(port: int, command: bytes, query: bytes, per_second: int, seconds: float) -> list[float]:
    """The seconds from each command's answer to that of a query that shows its effect.

    Commands are sent at an even pace; the query names the new thing as `{id}`, and `{position}`.
    """
    return uvloop.run(_delays(port, command, query, per_second, seconds))


async def _delays(
    port: int, command: bytes, query: bytes, per_second: int, seconds: float
) -> list[float]:
    found: list[float] = []
    numbers, token = count(time.time_ns()), NUMBER.encode()

    async def follow() -> None:
        connection = await idle.get()
        answer = await connection.ask(command.replace(token, b"%d" % next(numbers)))
        answered = time.perf_counter()
        created = json.decode(answer.body)["id"].encode()
        asking = query.replace(b"{id}", created)
        await connection.ask(asking.replace(b"{position}", answer.header(b"x-position")))
        found.append(time.perf_counter() - answered)
        idle.put_nowait(connection)

    async with connected(port, CONNECTIONS) as idle:
        await paced(follow, per_second, seconds)
    return found


@asynccontextmanager
async def connected(port: int, number: int) -> AsyncGenerator[asyncio.Queue[Connection]]:
    """Connections to take and to put back."""
    opened = [await Connection.open(port) for _ in range(number)]
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in opened:
        idle.put_nowait(connection)
    try:
        yield idle
    finally:
        for connection in opened:
            connection.close()


async def paced(
    act: Callable[[], Coroutine[Any, Any, None]], per_second: int, seconds: float
) -> None:
    """Begin something at an even pace, however long each takes, and wait until all have ended."""
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(round(per_second * seconds)):
            await asyncio.sleep(begun + number / per_second - time.perf_counter())
            tasks.create_task(act())
