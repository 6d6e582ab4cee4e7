"""Personal texts in the log: sealed, opened, and forgotten."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from commands.bus import Bus, Envelope
from commands.kernel import SYSTEM, UnknownActor, check_standing
from commands.people import CreateAccount
from commands.people.bans import BanPerson, UnbanPerson
from commands.vault import KeyDestroyed, KeyRing, PersonalTextBroken, Vault
from domain.kernel import Event, Recorded, event_name, stream_of_event
from domain.people import Person, PersonBanned, UsernameClaim
from domain.personal import MasterKeyWrong
from projections.moderation import Moderation
from projections.projector import Projection
from runtime.settings import Settings
from runtime.wiring import clock, open_bus, open_pool
from tests.database import MASTER_KEY, Database
from tests.rebuilding import fold_all

REASON = "sold his grandmother's seat"
ANOTHER_KEY = "a master key that has wrapped nothing here"

WHO = "gulnara-id"


def with_bus(database: Database, work: Callable[[Bus], Awaitable[Any]]) -> Any:
    """Do something with the bus of a fresh process."""

    async def main() -> Any:
        settings = Settings(dsn=database.app, master_key=MASTER_KEY)
        async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
            return await work(bus)

    return asyncio.run(main())


@asynccontextmanager
async def opened_vault(database: Database, master_keys: str = MASTER_KEY) -> AsyncGenerator[Vault]:
    async with AsyncConnectionPool[Any](database.app, open=False) as pool:
        vault = Vault(master_keys, pool)
        await vault.start()
        yield vault


@pytest.fixture
def banned(database: Database) -> Database:
    """A log that holds a name, and a reason that is nobody else's business."""

    async def work(bus: Bus) -> None:
        account = CreateAccount(person_id=WHO, username="gulnara", roles=("uploader",))
        await bus.handle(account, Envelope(actor=SYSTEM, command_id="retried"))
        await bus.handle(BanPerson(person_id=WHO, reason=REASON), Envelope(actor=SYSTEM))

    with_bus(database, work)
    return database


def forget(database: Database, subject: str) -> None:
    with psycopg.connect(database.app) as connection:
        connection.execute("UPDATE people.keys SET wrapped = NULL WHERE subject = %s", (subject,))


def the_ban(database: Database) -> Person:
    async def work(bus: Bus) -> Person:
        return await bus.person(WHO, "main")

    return with_bus(database, work)


def test_the_log_tells_neither_who_nor_why(banned: Database) -> None:
    with psycopg.connect(banned.owner) as connection:
        events = connection.execute("SELECT e::text FROM log.events e").fetchall()
        commands = connection.execute("SELECT c::text FROM log.commands c").fetchall()
    kept = "\n".join(row[0] for row in events + commands).replace(WHO, "")
    assert "people.PersonBanned" in kept
    assert "username_claim-" in kept
    assert "gulnara" not in kept
    assert "grandmother" not in kept


def test_another_process_reads_what_was_sealed(banned: Database) -> None:
    person = the_ban(banned)
    assert person.username == "gulnara"
    assert person.ban is not None
    assert person.ban.reason == REASON


def test_a_concealed_name_is_found(banned: Database) -> None:
    claim = with_bus(banned, lambda bus: bus.state(UsernameClaim, "gulnara", "main"))
    assert claim.person_id == WHO
    assert with_bus(banned, lambda bus: bus.state(UsernameClaim, "gulnar", "main")) is None


def test_without_the_key_nothing_is_left_but_that_it_happened(banned: Database) -> None:
    forget(banned, WHO)
    person = the_ban(banned)
    assert person.username == ""
    assert person.ban is not None
    assert person.ban.reason == ""
    with pytest.raises(UnknownActor):
        check_standing(person, clock())


def test_of_who_was_forgotten_nothing_more_is_recorded(banned: Database) -> None:
    forget(banned, WHO)
    lifted = UnbanPerson(person_id=WHO, reason="she has gone")
    with pytest.raises(KeyDestroyed):
        with_bus(banned, lambda bus: bus.handle(lifted, Envelope(actor=SYSTEM)))


def a_ban() -> PersonBanned:
    return PersonBanned(person_id="ana", reason=REASON)


def a_record_of(event: Event) -> Recorded:
    return Recorded(
        position=1,
        stream=stream_of_event(event),
        version=1,
        type=event_name(type(event)),
        tenant="main",
        actor=SYSTEM,
        command_id="given",
        correlation_id="given",
        causation_id=None,
        recorded_at=clock(),
        event=event,
    )


async def _sealed(vault: Vault, person_id: str) -> Event:
    (event,) = await vault.seal([PersonBanned(person_id=person_id, reason=REASON)])
    return event


def test_processes_that_meet_a_person_at_once_agree_on_the_key(database: Database) -> None:
    async def main() -> None:
        async with opened_vault(database) as a, opened_vault(database) as b:
            names = [f"person-{number}" for number in range(50)]
            by_a = asyncio.gather(*(_sealed(a, name) for name in names))
            by_b = asyncio.gather(*(_sealed(b, name) for name in names))
            for name, one, other in zip(names, await by_a, await by_b, strict=True):
                said = PersonBanned(person_id=name, reason=REASON)
                assert b.open(one) == said
                assert a.open(other) == said

    asyncio.run(main())


def test_a_sealed_text_is_good_in_its_place_only(database: Database) -> None:
    async def main() -> None:
        async with opened_vault(database) as vault:
            event = await _sealed(vault, "ana")
            assert isinstance(event, PersonBanned)
            await _sealed(vault, "beka")
            with pytest.raises(PersonalTextBroken):
                vault.open(PersonBanned(person_id="beka", reason=event.reason))
            with pytest.raises(PersonalTextBroken):
                vault.open(PersonBanned(person_id="ana", reason=event.reason[:-4]))

    asyncio.run(main())


def test_a_text_that_was_never_sealed_is_read_as_it_is(database: Database) -> None:
    async def main() -> None:
        async with opened_vault(database) as vault:
            before = PersonBanned(person_id="ana", reason="from before it counted as personal")
            (recorded,) = await vault.opened([a_record_of(before)])
            assert recorded.event == before
            assert vault.open(await _sealed(vault, "ana")) == a_ban()

    asyncio.run(main())


def test_a_projector_without_the_right_master_key_sets_nothing_aside(banned: Database) -> None:
    with psycopg.connect(banned.app, autocommit=True) as connection:
        projection = Projection(connection, Moderation, KeyRing(ANOTHER_KEY))
        projection.open()
        with pytest.raises(MasterKeyWrong):
            projection.step()
        left = connection.execute("SELECT count(*) FROM projections.dead_letters").fetchone()
        assert left == (0,)
        assert fold_all(connection, Moderation).step() is False


def test_master_keys_rotate(database: Database) -> None:
    async def main() -> None:
        async with opened_vault(database) as vault:
            event = await _sealed(vault, "ana")
        async with opened_vault(database, f"{ANOTHER_KEY}, {MASTER_KEY}") as vault:
            assert vault.open(await _sealed(vault, "ana")) == vault.open(event)
        with pytest.raises(MasterKeyWrong):
            async with opened_vault(database, ANOTHER_KEY):
                pass

    asyncio.run(main())
