"""Read models and policies that no code declares any more: out of the figures, and dropped."""

import asyncio

import psycopg
import pytest

from commands.vault import KeyRing
from projections.catalogue import Catalogue
from projections.kernel import MODELS
from projections.projector import Projection
from runtime.migrate import migrate
from runtime.prune import prune
from runtime.settings import Settings
from runtime.wiring import open_pool
from tests.database import MASTER_KEY, Database
from tests.readmodels import Connection
from tests.tally import Tally

NAME = Catalogue.schema()
NEXT = f"catalogue_{Catalogue.version + 1}"


@pytest.fixture
def upgraded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code has a newer version of a read model, which stands where the older one does."""
    monkeypatch.setattr(Catalogue, "version", Catalogue.version + 1)
    migrate(database.owner)


def schemas(connection: Connection) -> set[str]:
    found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'catalogue_%'")
    return {name for (name,) in found}


def tracked(connection: Connection) -> set[str]:
    found = connection.execute("SELECT model || '_' || version FROM projections.checkpoints")
    return {name for (name,) in found}


def test_what_the_code_declares_is_never_dropped(connection: Connection, database: Database):
    before = tracked(connection)
    assert prune(database.owner) == []
    assert tracked(connection) == before


@pytest.mark.usefixtures("upgraded")
def test_an_older_version_is_dropped_with_all_that_is_noted_of_it(
    connection: Connection, database: Database
):
    connection.execute(
        "INSERT INTO projections.dead_letters (model, version, position, stream, error)"
        " VALUES ('catalogue', %s, 1, 'series-s1', 'broken')",
        (Catalogue.version - 1,),
    )
    assert schemas(connection) == {NAME, NEXT}
    assert prune(database.owner) == [NAME]
    assert schemas(connection) == {NEXT}
    assert NAME not in tracked(connection)
    left = connection.execute("SELECT count(*) FROM projections.dead_letters").fetchone()
    assert left == (0,)


@pytest.mark.usefixtures("upgraded")
def test_an_older_version_stays_until_the_newer_one_has_come_as_far(
    connection: Connection, database: Database
):
    older = Catalogue.version - 1
    move = "UPDATE projections.checkpoints SET position = 7 WHERE (model, version) = (%s, %s)"
    connection.execute(move, ("catalogue", older))
    assert prune(database.owner) == []
    connection.execute(move, ("catalogue", Catalogue.version))
    assert prune(database.owner) == [NAME]


def test_a_newer_version_than_the_code_declares_stays(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "version", Catalogue.version + 1)
        migrate(database.owner)
    assert prune(database.owner) == []
    assert schemas(connection) == {NAME, NEXT}


def test_what_a_process_folds_stays(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
):
    with psycopg.connect(database.app, autocommit=True) as projector:
        assert Projection(projector, Catalogue, KeyRing(MASTER_KEY)).lease()
        monkeypatch.setattr(Catalogue, "version", Catalogue.version + 1)
        migrate(database.owner)
        assert prune(database.owner) == []
    assert schemas(connection) == {NAME, NEXT}


def test_what_a_process_answers_from_stays(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
):
    async def prune_while_a_process_answers() -> list[str]:
        async with open_pool(Settings(dsn=database.app)) as pool:
            await pool.wait()
            monkeypatch.setattr(Catalogue, "version", Catalogue.version + 1)
            migrate(database.owner)
            return prune(database.owner)

    assert asyncio.run(prune_while_a_process_answers()) == []
    assert prune(database.owner) == [NAME]


def test_a_read_model_that_no_code_declares_is_dropped(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setitem(MODELS, Tally.name, Tally)
        migrate(database.owner)
    assert "tally_1" in tracked(connection)
    assert prune(database.owner) == ["tally_1"]
    assert "tally_1" not in tracked(connection)
