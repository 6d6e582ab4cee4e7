"""Appending what read models fold, and what is found in them."""

from itertools import count
from typing import Any, LiteralString

import psycopg
from msgspec.structs import replace

from commands.log import APPEND, Append, NewEvent, encode_batch
from commands.vault import KeyRing
from domain.catalogue import SeriesRevised
from domain.kernel import Event, encode, event_name, stream_of_event
from projections.kernel import ReadModel
from projections.projector import Projection
from tests import histories
from tests.database import MASTER_KEY, Database

Connection = psycopg.Connection[Any]

command_ids = count()


def append(connection: Connection, *events: Event) -> int:
    """Append events as they are; the position of the last one."""
    command = Append(
        tenant="main",
        command_id=f"given-{next(command_ids)}",
        name="tests.Given",
        actor="meder",
        correlation_id="given",
        events=[NewEvent(stream_of_event(e), event_name(type(e)), encode(e)) for e in events],
    )
    ((_, _, _, last, _, _),) = connection.execute(APPEND, (encode_batch([command]),)).fetchall()
    return last


def created(series: str, title: str = "first") -> Event:
    slug = f"{title}-{series}"
    return replace(histories.created(), series_id=series, title=title, slug=slug)


def retitled(series: str, title: str) -> Event:
    return SeriesRevised(series_id=series, title=title)


def titles(connection: Connection) -> dict[str, list[str]]:
    return dict(connection.execute("SELECT id, titles FROM tally_1.tallies").fetchall())


def dead_letters(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT model, position, stream, error FROM projections.dead_letters ORDER BY position"
    ).fetchall()


def checkpoint(connection: Connection, model: type[ReadModel]) -> tuple[int, int]:
    """A read model's position, and its last change."""
    ((position, changed),) = connection.execute(
        "SELECT position, changed FROM projections.checkpoints WHERE model = %s", (model.name,)
    ).fetchall()
    return position, changed


def opened(connection: Connection, model: type[ReadModel]) -> Projection:
    projection = Projection(connection, model, KeyRing(MASTER_KEY))
    projection.open()
    return projection


def cut(database: Database, connection: Connection) -> None:
    """Cut a connection at the server."""
    with psycopg.connect(database.superuser) as superuser:
        pid = connection.info.backend_pid
        superuser.execute("SELECT pg_terminate_backend(%s, 10_000)", (pid,))


def rows_of(
    connection: Connection, model: type[ReadModel], asked: LiteralString
) -> list[tuple[Any, ...]]:
    """What is found in a read model's own tables."""
    with connection.transaction():
        connection.execute("SELECT set_config('search_path', %s, true)", (model.schema(),))
        found = connection.execute(asked).fetchall()
        connection.execute("SET LOCAL search_path TO DEFAULT")
    return found
