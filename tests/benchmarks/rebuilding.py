"""How fast the catalogue is rebuilt from the log, beside the library's projection runner."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import Mapper, Notification, StoredEvent, Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection as StockProjection
from eventsourcing.projection import ProjectionRunner
from eventsourcing.utils import get_topic
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row, tuple_row

from domain.kernel import Recorded, decode, event_name
from projections.catalogue import Catalogue
from projections.rows import RowCache
from runtime.wiring import clock
from tests.benchmarks.children import apart, in_process
from tests.benchmarks.figures import Figure, Sizes, interleaved, rate
from tests.benchmarks.stage import project, staged
from tests.database import Database, Server

NOW = clock()


def rebuild(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Events folded from the first one on, in batches and one by one."""
    with staged(server, sizes.rebuilt) as stage, apart() as pool:
        ours, stock = in_process(pool, folded_per_second), in_process(pool, processed_per_second)
        found = interleaved(
            {
                "ours": lambda: ours(stage.database),
                "stock": lambda: stock(stage.database, sizes.seconds),
            }
        )
    yield rate(
        "events folded in a rebuild",
        found["ours"],
        "stock ProjectionRunner",
        found["stock"],
        at_least=20,
        floor=15_000,
    )


def folded_per_second(database: Database) -> float:
    """How fast all of the log is folded into an empty catalogue."""
    _empty(database)
    begun = time.perf_counter()
    project(database.app)
    return _events(database) / (time.perf_counter() - begun)


def processed_per_second(database: Database, seconds: float) -> float:
    """How fast the stock runner writes the same rows; it begins anew and is stopped in time."""
    _empty(database)
    given = conninfo_to_dict(database.owner)
    environment = {
        "PERSISTENCE_MODULE": "commands.recorder",
        "MAPPER_TOPIC": get_topic(RecordedMapper),
        "ORIGINATOR_ID_TYPE": "text",
        "POSTGRES_DBNAME": str(given["dbname"]),
        "POSTGRES_HOST": str(given["host"]),
        "POSTGRES_PORT": str(given["port"]),
        "POSTGRES_USER": str(given["user"]),
        "POSTGRES_PASSWORD": str(given["password"]),
    }
    with ProjectionRunner(
        application_class=Application[str],
        projection_class=StockCatalogue,
        view_class=CatalogueView,
        env=environment,
    ) as runner:
        begun, first = time.perf_counter(), runner.view.processed
        runner.run_forever(timeout=seconds)
        return (runner.view.processed - first) / (time.perf_counter() - begun)


class RecordedMapper(Mapper[str]):
    """Gives the library's subscription the events of the log."""

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        assert isinstance(stored_event, Notification)
        return Recorded(
            position=stored_event.id,
            stream=str(stored_event.originator_id),
            version=stored_event.originator_version,
            type=stored_event.topic,
            tenant="main",
            actor="",
            command_id="",
            correlation_id="",
            causation_id=None,
            recorded_at=NOW,
            event=decode(stored_event.topic, stored_event.state),
        )


class CatalogueView(PostgresTrackingRecorder):
    """The catalogue's tables, each event and its tracking in a transaction of their own."""

    def __init__(self, datastore: PostgresDatastore, **options: Any) -> None:
        super().__init__(datastore, **options)
        self._rows: dict[Connection[Any], RowCache] = {}
        self.processed = 0

    def apply(self, recorded: Recorded, tracking: Tracking) -> None:
        """Read, change and write the rows of one event."""
        with self.datastore.transaction(commit=True) as cursor:
            connection: Connection[Any] = cursor.connection
            if connection not in self._rows:
                self._rows[connection] = RowCache(connection, Catalogue)
            rows = self._rows[connection]
            connection.row_factory = tuple_row
            Catalogue.fold(recorded, rows)
            rows.keep(recorded.position)
            rows.write()
            rows.forget()
            connection.row_factory = dict_row
            self._insert_tracking(cursor, tracking)
        self.processed += 1


class StockCatalogue(StockProjection[CatalogueView]):
    """The catalogue as a projection of the library."""

    topics = tuple(event_name(event) for event in Catalogue.folds)

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.apply(domain_event, tracking)


def _empty(database: Database) -> None:
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute(
            "SELECT set_config('search_path', %s, false)", (f"{Catalogue.schema()}, public",)
        )
        connection.execute("TRUNCATE series, chapters")
        connection.execute("UPDATE totals SET total = 0")
        connection.execute("UPDATE projections.checkpoints SET position = 0, changed = 0")
        connection.execute("DROP TABLE IF EXISTS stockcatalogue_tracking")
        connection.execute("CHECKPOINT")


def _events(database: Database) -> int:
    with psycopg.connect(database.app) as connection:
        row = connection.execute("SELECT count(*) FROM log.events").fetchone()
    assert row is not None
    return row[0]
