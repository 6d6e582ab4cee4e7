"""given / when / then, with the same words at three levels: pure, through the log, over HTTP."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString, Protocol, cast

from httpx import ASGITransport, AsyncClient
from msgspec import UNSET, to_builtins
from msgspec.structs import replace

from api.answers import AnswerCache
from api.apitokens import ApiTokens
from api.app import build_app
from api.browsers import BrowserCookies
from api.errors import refusal_of
from api.onetime import OneTimeTokens
from api.passwords import Passwords
from api.positions import Positions
from api.revocations import Revocations
from api.secondfactors import SecondFactors
from api.security import SecurityLog
from api.sessions import Lifetimes, Sessions
from api.site import Site
from api.tenancy import Tenants
from api.tokens import Tokens
from commands.bus import Bus, Envelope, written_as
from commands.connections import TenantPool
from commands.kernel import (
    SYSTEM,
    Command,
    Context,
    Loaded,
    authorize,
    decide,
    key_of,
)
from commands.log import Append, Appended, LogReader, LogWriter, NewEvent
from commands.vault import Vault
from domain.kernel import (
    RECORDED_COLUMNS,
    Event,
    State,
    fold,
    recorded,
    stream_of,
    stream_of_event,
)
from domain.people import AccountCreated, Person
from domain.tenancy import MAIN, Tenant, TenantOpened
from ingest.blobs import DirectoryStore
from runtime.registry import COMMANDS
from runtime.settings import Settings
from runtime.wiring import open_pool
from tests.database import MASTER_KEY, Database

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""The moment at which everything is decided."""

NEW = "new-1"
"""The id that a command which makes something gets."""

LIFETIMES = Lifetimes(idle=3_600, absolute=3_600, access=600)

PEOPLE: Mapping[str, str] = {
    "ana": "uploader",
    "ben": "uploader",
    "meder": "moderator",
    "asel": "auditor",
    "aida": "administrator",
    "nur": "reader",
}
"""Who is there before anything is given; their ids are their names."""

_APPENDED: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events WHERE position > %s ORDER BY position"
)

Handled = tuple[Sequence[Event], str]
"""The events that came of a command, and the code of its refusal."""


class Level(Protocol):
    """Where a command is handled."""

    def handle(self, given: Sequence[Event], command: Command, by: str) -> Handled: ...


class Then:
    """What came of a command."""

    def __init__(self, handled: Handled) -> None:
        self.outcome = handled

    def then(self, *events: Event) -> None:
        """Exactly these events were appended."""
        appended, refusal = self.outcome
        assert (list(appended), refusal) == (list(events), "")

    def then_nothing(self) -> None:
        """It was answered, and nothing was appended."""
        self.then()

    def then_rejected(self, code: str) -> None:
        """It was refused with this code, and nothing was appended."""
        appended, refusal = self.outcome
        assert (list(appended), refusal) == ([], code)


class Given:
    """What has happened before."""

    def __init__(self, level: Level, events: Sequence[Event]) -> None:
        self._level = level
        self._events = events

    def when(self, command: Command, *, by: str) -> Then:
        """Somebody issues a command."""
        people = [AccountCreated(person_id=n, username=n, roles=(r,)) for n, r in PEOPLE.items()]
        return Then(self._level.handle([*people, *self._events], command, by))


GivenEvents = Callable[..., Given]


def given_at(level: Level) -> GivenEvents:
    """The word `given`, at a level."""
    return lambda *events: Given(level, events)


def _with_new_id(command: Command) -> Command:
    new_id = COMMANDS[type(command)].new_id
    return replace(command, **{new_id: NEW}) if new_id else command


class PureLevel:
    """The rules alone: nothing but functions."""

    def handle(self, given: Sequence[Event], command: Command, by: str) -> Handled:
        command = _with_new_id(command)
        spec = COMMANDS[type(command)]
        try:
            permissions: frozenset[str] = frozenset()
            tenant_id = next((e.tenant_id for e in given if isinstance(e, TenantOpened)), MAIN)
            tenant = fold(Tenant(), _of(given, stream_of(Tenant, tenant_id)))
            if by != SYSTEM:
                person = fold(Person(), _of(given, stream_of(Person, by)))
                permissions = authorize(spec, person, tenant, AT)
            read: dict[str, Loaded] = {}
            for name, state in spec.reads.items():
                read[name] = _load(given, state, key_of(name, command, by, tenant_id, read))
            ctx = Context(
                actor=by, at=AT, permissions=permissions, tenant_id=tenant_id, tenant=tenant
            )
            events = decide(command, read, ctx)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            return (), refusal.code
        return events, ""


def _of(events: Iterable[Event], stream: str) -> list[Event]:
    return [event for event in events if stream_of_event(event) == stream]


def _load(events: Iterable[Event], state: type[State], key: str) -> Loaded:
    history = _of(events, stream_of(state, key))
    return Loaded(stream_of(state, key), fold(state(), history), len(history))


class LogLevel:
    """The bus on a real log; what is given is appended as it is."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def handle(self, given: Sequence[Event], command: Command, by: str) -> Handled:
        return asyncio.run(self._handle(given, command, by))

    async def _handle(self, given: Sequence[Event], command: Command, by: str) -> Handled:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(open_pool(Settings(dsn=self._database.app)))
            vault = Vault(MASTER_KEY, pool)
            await vault.start()
            writer = LogWriter(self._database.app)
            stack.callback(writer.close)
            last = append_given(writer, await written_as(given, vault))
            bus = Bus(writer, LogReader(pool, vault), vault, lambda: AT, _counted("new"))
            code = await self._ask(stack, bus, pool, _with_new_id(command), by)
            async with pool.of("main") as connection:
                cursor = await connection.execute(_APPENDED, (last,))
                new = await vault.opened([recorded(row) for row in await cursor.fetchall()])
        return [recorded.event for recorded in new], code

    async def _ask(
        self, stack: AsyncExitStack, bus: Bus, pool: TenantPool, command: Command, by: str
    ) -> str:
        try:
            await bus.handle(command, Envelope(actor=by, command_id="asked"))
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            return refusal.code
        return ""


class HttpLevel(LogLevel):
    """The whole application; commands without a route go to the bus."""

    async def _ask(
        self, stack: AsyncExitStack, bus: Bus, pool: TenantPool, command: Command, by: str
    ) -> str:
        spec = COMMANDS[type(command)]
        if spec.method is None:
            return await super()._ask(stack, bus, pool, command, by)
        tokens = Tokens("a secret of thirty-two bytes at least")
        passwords = Passwords(pool)
        revocations = Revocations(self._database.app, 0)
        sessions = Sessions(pool, revocations, LIFETIMES)
        opened = await sessions.open("session", by, "main", "token", None)
        stack.callback(passwords.close)
        positions = Positions(self._database.app)
        site = Site(
            bus=bus,
            pool=pool,
            positions=positions,
            tenants=Tenants(pool, positions),
            answers=AnswerCache(),
            tokens=tokens,
            sessions=sessions,
            one_time=OneTimeTokens(pool),
            api_tokens=ApiTokens(pool, revocations),
            second_factors=SecondFactors(pool, MASTER_KEY, _counted("factor")),
            cookies=BrowserCookies(secure=True),
            passwords=passwords,
            security=SecurityLog(pool, bus.vault, lambda: AT),
            blobs=DirectoryStore(self._folder),
            pictures=cast("Any", None),  # no picture is a plain command
            scratch=self._folder,
            clock=lambda: AT,
            new_id=_counted("new"),
        )
        app = build_app(lambda: nullcontext(site))
        await stack.enter_async_context(app.lifespan())
        transport = ASGITransport(cast("Any", app))
        client = await stack.enter_async_context(
            AsyncClient(transport=transport, base_url="http://site")
        )
        token = tokens.access(opened.session, datetime.now(UTC), LIFETIMES.access)
        path = "/api/v1" + spec.path.format(**{n: getattr(command, n) for n in spec.path_fields})
        body = {
            name: to_builtins(value)
            for name in spec.body_fields
            if (value := getattr(command, name)) is not UNSET
        }
        response = await client.request(
            spec.method,
            path,
            json=body or None,
            headers={
                "Authorization": f"Bearer {token}",
                "Idempotency-Key": "asked",
            },
        )
        return response.json()["error"]["code"] if response.is_error else ""


def _counted(prefix: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"


def append_given(writer: LogWriter, events: Sequence[NewEvent]) -> int:
    """Append what is given, as it is, and return the last position."""
    append = Append(
        tenant="main",
        command_id="given",
        name="tests.Given",
        actor=SYSTEM,
        correlation_id="given",
        events=events,
    )
    verdict = writer.append(append).result()
    assert isinstance(verdict, Appended)
    return verdict.last
