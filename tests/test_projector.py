"""Read models: what a batch folds to, and what is left of it when something goes wrong."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from commands.vault import KeyRing
from domain.catalogue import SeriesRevised, SeriesUnpublished
from domain.kernel import Event
from domain.people import AccountCreated
from projections import projector
from projections.catalogue import Catalogue
from projections.kernel import MODELS, ReadModel
from projections.moderation import Moderation
from projections.projector import LeaseLost, Projection, Projector
from projections.rows import RowCache
from tests import histories
from tests.database import MASTER_KEY, Database, Server
from tests.processes import until
from tests.readmodels import (
    Connection,
    append,
    checkpoint,
    created,
    cut,
    dead_letters,
    opened,
    retitled,
    rows_of,
    titles,
)
from tests.rebuilding import Tables, assert_equal_to_a_rebuild, empty, fold_all, tables_of
from tests.tally import Tally

LOGGER = "projections.projector"


CHAPTER_TALES: Sequence[Sequence[Event]] = (
    (histories.pages, histories.processed, histories.approved),
    (histories.pages, histories.processed, histories.approved, histories.deleted),
    (histories.pages, histories.processed, histories.rejected, histories.deleted),
    (histories.pages, histories.pages, histories.processed, histories.deleted),
    (histories.refused,),
    (histories.deleted, histories.refused),
)
SERIES_TALE: Sequence[Event] = (
    histories.published,
    SeriesRevised(series_id="s1", title="Another"),
    SeriesUnpublished(series_id="s1"),
    SeriesRevised(series_id="s1", categories=("Night",)),
    histories.published,
)


@st.composite
def tales(draw: st.DrawFn) -> list[Event]:
    """A valid history of two series, with chapters that come to different ends."""
    lines: list[list[Event]] = []
    for number, tale in enumerate(draw(st.lists(st.sampled_from(CHAPTER_TALES), max_size=4))):
        series = draw(st.sampled_from(["s1", "s2"]))
        uploaded = replace(histories.uploaded(), series_id=series, number=float(number))
        lines.append([replace(event, chapter_id=f"c{number}") for event in (uploaded, *tale)])
    for series in ("s1", "s2"):
        length = draw(st.integers(0, len(SERIES_TALE)))
        lines.append([replace(event, series_id=series) for event in SERIES_TALE[:length]])
    account = AccountCreated(person_id="ana", username="ana", roles=("uploader",))
    told = [created("s1"), created("s2"), account]
    while any(lines):
        told.append(draw(st.sampled_from([line for line in lines if line])).pop(0))
    return told


def folded(connection: Connection, model: type[ReadModel]) -> tuple[Tables, tuple[int, int]]:
    """A read model made anew, and its checkpoint."""
    empty(connection, model)
    fold_all(connection, model)
    return tables_of(connection, model), checkpoint(connection, model)


@given(tale=tales(), size=st.integers(2, 9))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_events_fold_to_the_same_in_a_batch_as_one_by_one(
    connection: Connection, tale: list[Event], size: int
):
    with connection.transaction(force_rollback=True), pytest.MonkeyPatch.context() as patch:
        append(connection, *tale)
        for model in (Catalogue, Moderation):
            patch.setattr(projector, "BATCH", 1)
            one_by_one = folded(connection, model)
            for batch in (size, 2_000):
                patch.setattr(projector, "BATCH", batch)
                assert folded(connection, model) == one_by_one
        assert dead_letters(connection) == []
        ((published,),) = rows_of(
            connection, Catalogue, "SELECT count(*) FROM series WHERE published"
        )
        totals = tables_of(connection, Catalogue)["totals"]
        assert totals == ([("main", "series", published)] if published else [])


def test_a_read_model_made_anew_equals_the_one_that_grew(database: Database):
    with psycopg.connect(database.app, autocommit=True) as connection:
        for event in (*histories.pending(), histories.published, histories.approved):
            append(connection, event)
            for model in MODELS.values():
                fold_all(connection, model)
        assert tables_of(connection, Catalogue)["totals"] == [("main", "series", 1)]
    assert_equal_to_a_rebuild(database.app)


def test_rows_and_checkpoint_are_written_together_or_not_at_all(
    database: Database, tally: type[Tally], monkeypatch: pytest.MonkeyPatch
):
    write = RowCache.write

    def write_and_be_cut_off(rows: RowCache) -> int:
        changed = write(rows)
        cut(database, cut_off)
        return changed

    with psycopg.connect(database.app, autocommit=True) as connection:
        last = append(connection, created("s1"), created("s2"))
        with psycopg.connect(database.app, autocommit=True) as cut_off:
            projection = opened(cut_off, tally)
            with monkeypatch.context() as patch:
                patch.setattr(RowCache, "write", write_and_be_cut_off)
                with pytest.raises(psycopg.OperationalError):
                    projection.step()
        assert (titles(connection), checkpoint(connection, tally)) == ({}, (0, 0))
        fold_all(connection, tally)
        assert titles(connection) == {"s1": ["first"], "s2": ["first"]}
        assert checkpoint(connection, tally) == (last, last)


def test_only_a_row_that_changes_counts_as_a_change(connection: Connection, tally: type[Tally]):
    changed = append(connection, created("s1"))
    fold_all(connection, tally)
    position = append(
        connection,
        SeriesRevised(series_id="s1", description="no title"),
        AccountCreated(person_id="ana", username="ana", roles=("uploader",)),
    )
    fold_all(connection, tally)
    assert checkpoint(connection, tally) == (position, changed)


def test_a_notification_says_how_far_a_read_model_is_and_what_changed_it_last(
    connection: Connection, database: Database, tally: type[Tally]
):
    with psycopg.connect(database.app, autocommit=True) as listener:
        listener.execute("LISTEN imprimatur_projected")
        changed = append(connection, created("s1"))
        fold_all(connection, tally)
        position = append(connection, SeriesRevised(series_id="s1", description="no title"))
        fold_all(connection, tally)
        said = [one.payload for one in listener.notifies(timeout=60, stop_after=2)]
    assert said == [f"tally_1 {changed} {changed}", f"tally_1 {position} {changed}"]


def test_one_projector_leases_and_the_next_takes_over_when_its_connection_is_cut(
    connection: Connection, database: Database, tally: type[Tally]
):
    append(connection, created("s1"))
    with psycopg.connect(database.app, autocommit=True) as first_connection:
        first, second = (
            Projection(one, tally, KeyRing(MASTER_KEY)) for one in (first_connection, connection)
        )
        assert first.lease()
        assert not second.lease()
        first.open()
        first.step()
        cut(database, first_connection)
        until(second.lease)
        second.open()
        append(connection, retitled("s1", "second"))
        second.step()
        with pytest.raises(psycopg.OperationalError):
            first.step()
    assert titles(connection) == {"s1": ["first", "second"]}


def test_a_checkpoint_that_somebody_else_moved_is_a_lost_lease(
    connection: Connection, tally: type[Tally]
):
    append(connection, created("s1"))
    overtaken = opened(connection, tally)
    fold_all(connection, tally)
    append(connection, created("s2"))
    fold_all(connection, tally)
    before = tables_of(connection, tally), checkpoint(connection, tally)
    with pytest.raises(LeaseLost):
        overtaken.step()
    assert (tables_of(connection, tally), checkpoint(connection, tally)) == before


def test_two_projectors_fold_every_event_once_while_their_connections_are_cut(
    connection: Connection, database: Database, tally: type[Tally], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(projector, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(projector, "POLL_SECONDS", 0.01)
    last = append(connection, created("s1", "0"))
    projectors = [Projector(database.app, KeyRing(MASTER_KEY), [tally]) for _ in range(2)]
    for one in projectors:
        one.start()
    try:
        for number in range(1, 60):
            last = append(connection, retitled("s1", str(number)))
            if number % 10 == 0:
                with psycopg.connect(database.superuser) as superuser:
                    superuser.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                        " AND granted AND database ="
                        " (SELECT oid FROM pg_database WHERE datname = current_database())"
                    )
        until(lambda: checkpoint(connection, tally)[0] == last)
    finally:
        for one in projectors:
            one.stop()
    assert titles(connection) == {"s1": [str(number) for number in range(60)]}


def test_a_database_that_is_gone_is_said_once_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(projector, "RECONNECT_SECONDS", 0.01)
    tried = count()
    connect = psycopg.connect

    def try_to_connect(*arguments: Any, **options: Any) -> Connection:
        next(tried)
        return connect(*arguments, **options)

    def said() -> list[str]:
        return [one.message.split(":")[0] for one in caplog.records if one.name == LOGGER]

    with Server() as server, server.database() as database:
        monkeypatch.setattr(psycopg, "connect", try_to_connect)
        one = Projector(database.app, KeyRing(MASTER_KEY), [Catalogue])
        one.start()
        try:
            with connect(database.app, autocommit=True) as connection:
                last = append(connection, histories.created())
                until(lambda: checkpoint(connection, Catalogue)[0] == last)
            server.postgres.stop()
            until(lambda: next(tried) > 50)
            assert said() == ["catalogue waits"]
            server.postgres.start()
            until(lambda: len(said()) == 2)
        finally:
            one.stop()
        assert said() == ["catalogue waits", "catalogue goes on"]
    assert not any(record.exc_info for record in caplog.records if record.name == LOGGER)
