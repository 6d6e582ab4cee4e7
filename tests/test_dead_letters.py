"""What a read model cannot fold is set aside, and folded again when an operator says so."""

import pytest

from domain.catalogue import ChapterRefused, Finding
from projections.catalogue import Catalogue
from projections.moderation import Moderation
from runtime.followers import retry_read_model
from tests import histories
from tests.database import Database
from tests.readmodels import (
    Connection,
    append,
    checkpoint,
    created,
    dead_letters,
    retitled,
    rows_of,
    titles,
)
from tests.rebuilding import fold_all
from tests.tally import POISON, TOO_LONG, UNWRITABLE, Tally


def test_an_event_that_cannot_be_folded_holds_its_stream_for_that_read_model_alone(
    connection: Connection, tally: type[Tally]
):
    last = append(
        connection,
        created("s1"),
        retitled("s1", POISON),
        created("s2"),
        retitled("s1", "third"),
        retitled("s2", "second"),
    )
    for model in (tally, Catalogue):
        fold_all(connection, model)
    assert titles(connection) == {"s1": ["first"], "s2": ["first", "second"]}
    assert dead_letters(connection) == [
        ("tally", 2, "series-s1", "ValueError('poison')"),
        ("tally", 4, "series-s1", "follows an event that was set aside"),
    ]
    assert checkpoint(connection, tally) == (last, last)
    found = rows_of(connection, Catalogue, "SELECT title FROM series ORDER BY id")
    assert found == [("third",), ("second",)]


def test_a_stream_stays_held_when_the_projector_starts_again(
    connection: Connection, tally: type[Tally]
):
    append(connection, created("s1"), retitled("s1", POISON))
    fold_all(connection, tally)
    append(connection, retitled("s1", "third"))
    fold_all(connection, tally)
    assert titles(connection) == {"s1": ["first"]}
    assert [position for _, position, _, _ in dead_letters(connection)] == [2, 3]


def test_a_retry_folds_in_order_what_was_set_aside(
    connection: Connection, database: Database, tally: type[Tally], monkeypatch: pytest.MonkeyPatch
):
    append(connection, created("s1"), retitled("s1", POISON), retitled("s1", "third"))
    projection = fold_all(connection, tally)
    monkeypatch.setattr(tally, "broken", False)
    assert retry_read_model(database.app, tally.name) == 2
    append(connection, retitled("s1", "set aside after the retry was asked for"))
    while projection.step():
        pass
    assert titles(connection) == {
        "s1": ["first", POISON, "third", "set aside after the retry was asked for"]
    }
    assert dead_letters(connection) == []
    append(connection, retitled("s1", "last"))
    assert projection.step()
    assert titles(connection)["s1"][-1] == "last"


def test_a_retry_does_not_wait_until_nothing_else_is_to_be_folded(
    connection: Connection, database: Database, tally: type[Tally], monkeypatch: pytest.MonkeyPatch
):
    append(connection, created("s1"), retitled("s1", POISON))
    projection = fold_all(connection, tally)
    monkeypatch.setattr(tally, "broken", False)
    retry_read_model(database.app, tally.name)
    append(connection, created("s2"))
    projection.step()
    assert titles(connection) == {"s1": ["first", POISON], "s2": ["first"]}


def test_a_retry_that_fails_again_is_set_aside_again(
    connection: Connection, database: Database, tally: type[Tally]
):
    append(connection, created("s1"), retitled("s1", POISON), retitled("s1", "third"))
    fold_all(connection, tally)
    before = dead_letters(connection)
    retry_read_model(database.app, tally.name)
    fold_all(connection, tally)
    assert dead_letters(connection) == before
    assert titles(connection) == {"s1": ["first"]}


def test_a_retry_that_changes_rows_is_a_change_of_its_own(
    connection: Connection, database: Database, tally: type[Tally], monkeypatch: pytest.MonkeyPatch
):
    last = append(connection, created("s1"), retitled("s1", POISON), created("s2"))
    fold_all(connection, tally)
    assert checkpoint(connection, tally) == (last, last)
    monkeypatch.setattr(tally, "broken", False)
    retry_read_model(database.app, tally.name)
    fold_all(connection, tally)
    position, changed = checkpoint(connection, tally)
    assert position == last
    assert changed > last, "answers that were kept would count as being of today"


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("title", [UNWRITABLE, TOO_LONG], ids=["unwritable", "too long"])
def test_an_event_whose_rows_cannot_be_written_is_set_aside_alone(
    connection: Connection, database: Database, tally: type[Tally], title: str, retried: bool
):
    last = append(
        connection,
        created("s1"),
        retitled("s1", title),
        retitled("s1", "third"),
        created("s2"),
    )
    fold_all(connection, tally)
    if retried:
        retry_read_model(database.app, tally.name)
        fold_all(connection, tally)
    assert titles(connection) == {"s1": ["first"], "s2": ["first"]}
    assert [position for _, position, _, _ in dead_letters(connection)] == [2, 3]
    assert checkpoint(connection, tally) == (last, last)


def test_a_chapter_deleted_before_it_was_refused_stays_deleted_and_is_no_dead_letter(
    connection: Connection,
):
    malicious = ChapterRefused(
        chapter_id="c1",
        uploaded_by="ana",
        archive=histories.ARCHIVE,
        findings=(Finding("overlap"),),
        malicious=True,
    )
    append(connection, histories.created(), histories.uploaded(), histories.deleted, malicious)
    for model in (Catalogue, Moderation):
        fold_all(connection, model)
    assert dead_letters(connection) == []
    assert rows_of(connection, Moderation, "SELECT status FROM uploads") == [("deleted",)]
