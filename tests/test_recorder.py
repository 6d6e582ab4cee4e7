"""The eventsourcing library on the log: its own test cases, unchanged, and its applications."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.application import Application, ProcessingEvent
from eventsourcing.cipher import AESCipher
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, DomainEventProtocol, event
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    MapperDeserialisationError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)
from eventsourcing.postgres import PostgresAggregateRecorder, PostgresTrackingRecorder
from eventsourcing.system import ProcessApplication, SingleThreadedRunner, System
from eventsourcing.tests import persistence as cases
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from commands.log import MAX_EVENT_BYTES
from commands.recorder import (
    Factory,
    JsonTextMapper,
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
)
from tests.database import Database

COMPRESSED = {"COMPRESSOR_TOPIC": "eventsourcing.compressor:ZlibCompressor"}


@pytest.fixture
def env(database: Database) -> dict[str, str]:
    """What configures the library; its own tables go to a schema of the application's role."""
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA library AUTHORIZATION imprimatur_app")
    address = conninfo_to_dict(database.app)
    return {
        "PERSISTENCE_MODULE": "commands.recorder",
        "POSTGRES_DBNAME": str(address["dbname"]),
        "POSTGRES_HOST": str(address["host"]),
        "POSTGRES_PORT": str(address["port"]),
        "POSTGRES_USER": str(address["user"]),
        "POSTGRES_PASSWORD": str(address["password"]),
        "POSTGRES_SCHEMA": "library",
    }


@pytest.fixture
def factory(env: dict[str, str]) -> Iterator[Factory]:
    with Factory(env) as factory:
        yield factory


class OnTheLog:
    """Gives a test case of the library a factory on a fresh log."""

    factory: Factory

    @pytest.fixture(autouse=True)
    def on_a_fresh_log(self, factory: Factory) -> None:
        self.factory = factory


class TestAggregateRecorder(OnTheLog, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> LogAggregateRecorder:
        recorder = self.factory.aggregate_recorder()
        assert isinstance(recorder, LogAggregateRecorder)
        return recorder


class TestSnapshotRecorder(OnTheLog, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> PostgresAggregateRecorder:
        recorder = self.factory.aggregate_recorder("snapshots")
        assert type(recorder) is PostgresAggregateRecorder
        return recorder


class TestApplicationRecorder(OnTheLog, cases.ApplicationRecorderTestCase[LogApplicationRecorder]):
    def create_recorder(self) -> LogApplicationRecorder:
        recorder = self.factory.application_recorder()
        assert isinstance(recorder, LogApplicationRecorder)
        return recorder

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderWithTextIds(TestApplicationRecorder):
    @pytest.fixture(autouse=True)
    def with_text_ids(self, env: dict[str, str]) -> None:
        env["ORIGINATOR_ID_TYPE"] = "text"

    @pytest.fixture(autouse=True)
    def on_a_fresh_log(self, with_text_ids: None, factory: Factory) -> None:
        self.factory = factory

    def new_originator_id(self) -> str:
        return f"account-{uuid4()}"


class TestTrackingRecorder(OnTheLog, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> PostgresTrackingRecorder:
        return self.factory.tracking_recorder()


class TestProcessRecorder(OnTheLog, cases.ProcessRecorderTestCase):
    def create_recorder(self) -> LogProcessRecorder:
        recorder = self.factory.process_recorder()
        assert isinstance(recorder, LogProcessRecorder)
        return recorder


class TestNonInterleavingNotificationIds(OnTheLog, cases.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> LogApplicationRecorder:
        recorder = self.factory.application_recorder()
        assert isinstance(recorder, LogApplicationRecorder)
        return recorder


class CustomTrackingRecorder(PostgresTrackingRecorder):
    """What a test case of the library asks the factory for."""


class TestFactory(cases.InfrastructureFactoryTestCase[Factory]):
    @pytest.fixture(autouse=True)
    def on_a_fresh_log(self, env: dict[str, str]) -> None:
        self.env = Environment("TestFactory", env)

    def expected_factory_class(self) -> type[Factory]:
        return Factory

    def expected_aggregate_recorder_class(self) -> type[LogAggregateRecorder]:
        return LogAggregateRecorder

    def expected_application_recorder_class(self) -> type[LogApplicationRecorder]:
        return LogApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[PostgresTrackingRecorder]:
        return PostgresTrackingRecorder

    def tracking_recorder_subclass(self) -> type[PostgresTrackingRecorder]:
        return CustomTrackingRecorder

    def expected_process_recorder_class(self) -> type[LogProcessRecorder]:
        return LogProcessRecorder


class Account(Aggregate):
    """An account whose credits are kept."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.credits: list[int] = []

    @event("Credited")
    def credit(self, amount: int) -> None:
        self.credits.append(amount)


class Accounts(Application[UUID]):
    is_snapshotting_enabled = True


class Welcome(Aggregate):
    """A letter to the owner of a new account."""

    def __init__(self, account_id: UUID) -> None:
        self.account_id = account_id


class Welcomes(ProcessApplication[UUID]):
    @singledispatchmethod
    def policy(
        self,
        domain_event: DomainEventProtocol[UUID],
        processing_event: ProcessingEvent[UUID],
    ) -> None:
        if isinstance(domain_event, Account.Created):
            processing_event.collect_events(Welcome(account_id=domain_event.originator_id))


def bodies(database: Database) -> list[tuple[str, str, bool]]:
    with psycopg.connect(database.app) as connection:
        return connection.execute(
            "SELECT tenant, type, body IS JSON FROM log.events ORDER BY position"
        ).fetchall()


@pytest.mark.parametrize(
    "settings",
    [{}, COMPRESSED, {"CIPHER_KEY": AESCipher.create_key(16)}],
    ids=["plain", "compressed", "encrypted"],
)
def test_an_aggregate_is_saved_and_loaded(
    database: Database, env: dict[str, str], settings: dict[str, str]
) -> None:
    with Accounts(env | settings) as accounts:
        account = Account(owner="Айгүл")
        account.credit(amount=5)
        accounts.save(account)
        accounts.take_snapshot(account.id)
        account.credit(amount=7)
        accounts.save(account)
        copy: Account = accounts.repository.get(account.id)
        assert (copy.owner, copy.credits) == ("Айгүл", [5, 7])
        assert [n.id for n in accounts.notification_log.select(start=1, limit=10)] == [1, 2, 3]
    created, credited = (
        "tests.test_recorder:Account.Created",
        "tests.test_recorder:Account.Credited",
    )
    assert bodies(database) == [("main", t, True) for t in (created, credited, credited)]


def test_a_process_application_follows(database: Database, env: dict[str, str]) -> None:
    env |= {"ACCOUNTS_LOG_TENANT": "bank", "WELCOMES_LOG_TENANT": "post"}
    with SingleThreadedRunner[UUID](System([[Accounts, Welcomes]]), env) as runner:
        accounts, welcomes = runner.get(Accounts), runner.get(Welcomes)
        accounts.save(first := Account(owner="ana"))
        accounts.save(second := Account(owner="bek"))
        letters = [
            welcomes.mapper.to_domain_event(notification)
            for notification in welcomes.recorder.select_notifications(start=None, limit=10)
        ]
        assert [vars(letter)["account_id"] for letter in letters] == [first.id, second.id]
        assert welcomes.recorder.max_tracking_id("Accounts") == 3
    assert [row[0] for row in bodies(database)] == ["bank", "post", "bank", "post"]


def stored(state: bytes = b"{}", version: int = 1, id_: UUID | None = None) -> StoredEvent:
    return StoredEvent(id_ or uuid4(), version, "topic", state)


TRACKING = {"tracking": Tracking("upstream", 1)}


@pytest.mark.parametrize("tracking", [{}, TRACKING], ids=["grouped", "tracked"])
@pytest.mark.parametrize(
    "state", [b"\xff", b'"\x00"', b"x" * (MAX_EVENT_BYTES + 1)], ids=["bytes", "nul", "large"]
)
def test_a_state_that_the_log_cannot_hold(
    factory: Factory, state: bytes, tracking: dict[str, Any]
) -> None:
    recorder = factory.process_recorder()
    with pytest.raises(DataError):
        recorder.insert_events([stored(), stored(state)], **tracking)
    assert recorder.max_notification_id() is None
    assert recorder.max_tracking_id("upstream") is None


def test_a_conflict_records_no_tracking(factory: Factory) -> None:
    recorder = factory.process_recorder()
    recorder.insert_events([taken := stored()])
    with pytest.raises(IntegrityError):
        recorder.insert_events([taken], **TRACKING)
    assert recorder.max_tracking_id("upstream") is None


def test_tracking_twice_records_no_events(factory: Factory) -> None:
    recorder = factory.process_recorder()
    assert recorder.insert_events([stored()], **TRACKING) == [1]
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored()], **TRACKING)
    assert recorder.max_notification_id() == 1


def test_a_lost_answer_is_asked_for_again(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = factory.datastore.transaction
    losses = iter([OperationalError("the connection broke after the commit")])

    @contextmanager
    def losing(*, commit: bool) -> Generator[psycopg.Cursor[Any]]:
        with transaction(commit=commit) as cursor:
            yield cursor
        for loss in losses:
            raise loss

    recorder = factory.process_recorder()
    monkeypatch.setattr(factory.datastore, "transaction", losing)
    assert recorder.insert_events([stored()], **TRACKING) == [1]
    assert recorder.max_notification_id() == 1


def test_process_applications_wake_their_followers(factory: Factory) -> None:
    recorder = factory.process_recorder()
    with recorder.subscribe() as subscription:
        for version in (1, 2):
            tracking = Tracking("upstream", version)
            recorder.insert_events([happened := stored(version=version)], tracking=tracking)
            assert next(subscription).originator_id == happened.originator_id


def test_a_log_that_is_not_migrated(database: Database, env: dict[str, str]) -> None:
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute("DROP SCHEMA log CASCADE")
    with Factory(env) as factory, pytest.raises(ProgrammingError, match="migrate"):
        factory.application_recorder()


def test_a_closed_factory_appends_nothing(env: dict[str, str]) -> None:
    with Factory(env) as factory:
        recorder = factory.application_recorder()
    with pytest.raises(OperationalError):
        recorder.insert_events([stored()])


def test_a_password_that_changes_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(OSError, match="POSTGRES_GET_PASSWORD_TOPIC"):
        Factory(env | {"POSTGRES_GET_PASSWORD_TOPIC": "uuid:uuid4"})


def test_the_mapper_can_be_chosen(env: dict[str, str]) -> None:
    env |= COMPRESSED
    with Factory(env) as factory:
        assert isinstance(factory.mapper(), JsonTextMapper)
    with Factory(env | {"MAPPER_TOPIC": "eventsourcing.persistence:Mapper"}) as factory:
        assert not isinstance(factory.mapper(), JsonTextMapper)


@pytest.mark.parametrize("state", [b"{}", b'"not base64!"'])
def test_a_state_that_was_not_wrapped(env: dict[str, str], state: bytes) -> None:
    with Factory(env | COMPRESSED) as factory:
        topic = f"{__name__}:Account.Created"
        with pytest.raises(MapperDeserialisationError):
            factory.mapper().to_domain_event(StoredEvent(uuid4(), 1, topic, state))
