"""The bus: from a command to an answer that survives a power cut."""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from msgspec import Struct, json, structs

from commands.kernel import (
    COMMANDS,
    SYSTEM,
    Banned,
    Command,
    CommandSpec,
    Context,
    Deactivated,
    Loaded,
    NotFound,
    PermissionDenied,
    UnknownActor,
    authorize,
    decide,
    key_of,
)
from commands.log import (
    Append,
    Appended,
    Duplicate,
    EventTooLarge,
    LogReader,
    LogWriter,
    Moved,
    NewEvent,
    Read,
)
from commands.vault import KeyDestroyed, Vault
from commands.verdicts import Verdicts
from domain.kernel import Event, Recorded, Rejected, State, category, encode, event_name
from domain.people import Person
from domain.tenancy import MAIN, Tenant

ATTEMPTS = 100
"""How often a command decides anew when the streams that it reads keep moving."""

CACHED_STREAMS = 20_000

KEY = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff]{1,200}")
"""What an id or a claimed name can look like; anything else names nothing."""

S = TypeVar("S", bound=State)


class KeyReused(Exception):
    """An idempotency key came back with another command."""


class Contended(Exception):
    """The streams that the command reads moved at every attempt."""


NOTHING_APPENDED = (
    Banned,
    Contended,
    Deactivated,
    EventTooLarge,
    KeyDestroyed,
    KeyReused,
    NotFound,
    PermissionDenied,
    Rejected,
    UnknownActor,
)
"""What says for certain that the command left nothing; LogUnavailable, for one, does not."""


NOT_KEPT = (Banned, Deactivated, KeyDestroyed, NotFound, PermissionDenied, UnknownActor)
"""What refuses a command without an answer to keep: by now the key may have one of before."""


class Envelope(Struct, frozen=True, kw_only=True):
    """Who sends a command, and what it belongs to; `command_id` is the idempotency key.

    `scopes` are the permissions that the sender makes use of; None is all that they have.
    """

    actor: str
    tenant: str = MAIN
    command_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    scopes: frozenset[str] | None = None


class Outcome(Struct, frozen=True, omit_defaults=True):
    """The answer to a command: the id it created, and the position that shows its effect."""

    id: str = ""
    position: int = 0


class _Kept(Struct, frozen=True, omit_defaults=True):
    """What is kept of an answer, to be given again to the same key."""

    id: str = ""
    rejected: str = ""
    details: dict[str, Any] = {}


class Bus:
    """Handles commands: permission, states, decision, append; one answer for each key."""

    def __init__(
        self,
        writer: LogWriter,
        reader: LogReader,
        vault: Vault,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._writer = writer
        self._verdicts = Verdicts()
        self._reader = reader
        self._vault = vault
        self._reader = reader
        self._states = _States(reader, vault)
        self._clock = clock
        self._new_id = new_id

    async def handle(self, command: Command, envelope: Envelope) -> Outcome:
        """Decide a command and append its events.

        Raises Rejected, NotFound, PermissionDenied, Banned, Deactivated, UnknownActor, KeyReused,
        Contended, EventTooLarge, KeyDestroyed, LogUnavailable.
        """
        spec = COMMANDS[type(command)]
        try:
            return await self._handle(spec, command, envelope)
        except NOT_KEPT as refusal:
            known = await self._known(envelope)
            if known is None or _lacks_scope(refusal, envelope):
                raise
            return _answer_again(known, self._fingerprint(spec, command, envelope.actor))

    async def rehearse(self, command: Command, envelope: Envelope) -> None:
        """Refuse what `handle` would refuse by now, before more is spent on the request.

        Raises NotFound, PermissionDenied, Banned, UnknownActor.
        """
        spec = COMMANDS[type(command)]
        try:
            await self._decide(spec, self._named(spec, command), envelope, fresh=True)
        except NOT_KEPT as refusal:
            if await self._known(envelope) is None or _lacks_scope(refusal, envelope):
                raise

    async def _known(self, envelope: Envelope) -> Duplicate | None:
        """The answer that the actor was given before under the same key."""
        if envelope.command_id is None:
            return None
        return await self._reader.answered(envelope.tenant, envelope.command_id, envelope.actor)

    async def _handle(self, spec: CommandSpec, command: Command, envelope: Envelope) -> Outcome:
        command = self._named(spec, command)
        command_id = envelope.command_id or self._new_id()
        for attempt in range(ATTEMPTS):
            fresh = attempt > 0
            try:
                decision = await self._decide(spec, command, envelope, fresh=fresh)
            except NOT_KEPT:
                if fresh:
                    raise
                continue
            if not decision.events and not fresh:
                continue  # a no is never given on remembered states alone
            if not decision.events and envelope.command_id is None:
                return decision.answer(decision.position)
            fingerprint = self._fingerprint(spec, command, envelope.actor)
            written = await written_as(decision.events, self._vault)
            append = decision.append(spec, envelope, command_id, fingerprint, written)
            match await self._verdicts.of(self._writer.append(append)):
                case Appended(first=first, last=last):
                    self._states.advance(envelope.tenant, decision.read, decision.events, first)
                    return decision.answer(last)
                case Duplicate() as known:
                    return _answer_again(known, fingerprint)
                case Moved():
                    continue
        raise Contended(spec.name)

    def _named(self, spec: CommandSpec, command: Command) -> Command:
        """The command with an id for what it makes."""
        if spec.new_id and not getattr(command, spec.new_id):
            return structs.replace(command, **{spec.new_id: self._new_id()})
        return command

    async def person(self, person_id: str, tenant: str) -> Person:
        """An account as it stands at this moment, for reads that need a permission."""
        loaded = await self._states.load(tenant, Person, person_id, fresh=True)
        return cast("Person", loaded.state)

    async def state(self, state: type[S], key: str, tenant: str) -> S | None:
        """A stream's state as it stands at this moment; None where the stream is absent."""
        if not KEY.fullmatch(key):
            return None
        loaded = await self._states.load(tenant, state, key, fresh=True)
        return cast("S", loaded.state) if loaded.version else None

    async def event(self, position: int, tenant: str) -> Event:
        """What happened at a position, for a job that follows from it."""
        return (await self._reader.at(tenant, position)).event

    async def opened(self, history: list[Recorded]) -> list[Recorded]:
        """Events from the log with their personal texts readable."""
        return await self._vault.opened(history)

    @property
    def vault(self) -> Vault:
        """What seals personal texts, also those beside the log."""
        return self._vault

    async def _decide(
        self, spec: CommandSpec, command: Command, envelope: Envelope, *, fresh: bool
    ) -> "_Decision":
        at = self._clock()
        loaded = await self._states.load(envelope.tenant, Tenant, envelope.tenant, fresh=fresh)
        tenant = cast("Tenant", loaded.state)
        read = [loaded]
        permissions: frozenset[str] = frozenset()
        if envelope.actor != SYSTEM:
            account = await self._states.load(envelope.tenant, Person, envelope.actor, fresh=fresh)
            permissions = authorize(
                spec, cast("Person", account.state), tenant, at, envelope.scopes
            )
            read.append(account)
        declared: dict[str, Loaded] = {}
        for name, state in spec.reads.items():
            key = key_of(name, command, envelope.actor, envelope.tenant, declared)
            declared[name] = (
                Loaded(self._vault.stream_of(state, key), state())
                if name == spec.new_id and not fresh  # an id just made is nobody's, most times
                else await self._states.load(envelope.tenant, state, key, fresh=fresh)
            )
        ctx = Context(
            actor=envelope.actor,
            at=at,
            permissions=permissions,
            tenant_id=envelope.tenant,
            tenant=tenant,
        )
        read.extend(declared.values())
        new_id = getattr(command, spec.new_id) if spec.new_id else ""
        try:
            events = decide(command, declared, ctx)
        except Rejected as rejection:
            return _Decision(read, (), new_id, rejection)
        return _Decision(read, events, new_id)

    def _fingerprint(self, spec: CommandSpec, command: Command, actor: str) -> str:
        """Tells one request from another under the same key; the id made for it is no part."""
        blanks = {spec.new_id: ""} if spec.new_id else {}
        asked = json.encode((spec.name, actor, structs.replace(command, **blanks)))
        return self._vault.digest(asked)


class _Decision(Struct, frozen=True):
    """What came of a command, and every stream that it rests on."""

    read: Sequence[Loaded]
    events: tuple[Event, ...]
    new_id: str
    rejection: Rejected | None = None

    @property
    def position(self) -> int:
        """Where the streams that were read stand."""
        return max((loaded.position for loaded in self.read), default=0)

    def append(
        self,
        spec: CommandSpec,
        envelope: Envelope,
        command_id: str,
        fingerprint: str,
        written: Sequence[NewEvent],
    ) -> Append:
        kept = _Kept(id=self.new_id)
        if self.rejection is not None:
            kept = _Kept(rejected=self.rejection.code, details=self.rejection.details)
        return Append(
            tenant=envelope.tenant,
            command_id=command_id,
            name=spec.name,
            actor=envelope.actor,
            correlation_id=envelope.correlation_id or command_id,
            causation_id=envelope.causation_id,
            fingerprint=fingerprint,
            outcome=json.encode(kept).decode(),
            reads=[Read(loaded.stream, loaded.version) for loaded in self.read],
            events=written,
        )

    def answer(self, position: int) -> Outcome:
        if self.rejection is not None:
            raise self.rejection
        return Outcome(id=self.new_id, position=position)


class _States:
    """The states that this process has folded, kept until others need the room.

    A remembered state may be behind; the log finds that out when it checks the versions.
    """

    def __init__(self, reader: LogReader, vault: Vault) -> None:
        self._reader = reader
        self._vault = vault
        self._cache: OrderedDict[tuple[str, str], Loaded] = OrderedDict()

    async def load(self, tenant: str, state: type[State], key: str, *, fresh: bool) -> Loaded:
        stream = self._vault.stream_of(state, key)
        if state.claim and not key:
            return Loaded(stream, state())
        if not KEY.fullmatch(key):
            raise NotFound(category(state))
        known = self._cache.get((tenant, stream))
        if not fresh and known is not None:
            self._cache.move_to_end((tenant, stream))
            return known
        if not fresh and state.claim:
            return Loaded(stream, state())  # a name is free, most times
        loaded = known or Loaded(stream, state())
        for recorded in await self._reader.stream(tenant, stream, after=loaded.version):
            loaded = Loaded(
                stream,
                loaded.state.evolve(recorded.event),
                recorded.version,
                recorded.position,
            )
        self._remember(tenant, loaded)
        return loaded

    def advance(
        self, tenant: str, read: Sequence[Loaded], events: tuple[Event, ...], first: int
    ) -> None:
        """Fold events just appended into the states that were read for them."""
        by_stream = {loaded.stream: loaded for loaded in read}
        for position, event in enumerate(events, first):
            if known := by_stream.get(self._vault.stream_of_event(event)):
                by_stream[known.stream] = Loaded(
                    known.stream, known.state.evolve(event), known.version + 1, position
                )
        for loaded in by_stream.values():
            self._remember(tenant, loaded)

    def _remember(self, tenant: str, loaded: Loaded) -> None:
        known = self._cache.get((tenant, loaded.stream))
        if loaded.version == 0 or (known is not None and known.version >= loaded.version):
            return
        self._cache[tenant, loaded.stream] = loaded
        self._cache.move_to_end((tenant, loaded.stream))
        if len(self._cache) > CACHED_STREAMS:
            self._cache.popitem(last=False)


def _lacks_scope(refusal: Exception, envelope: Envelope) -> bool:
    """Whether it may be the token that may not ask, whatever its person was answered before."""
    return isinstance(refusal, PermissionDenied) and envelope.scopes is not None


async def written_as(events: Sequence[Event], vault: Vault) -> list[NewEvent]:
    """Events as they are written into the log: sealed, encoded, each with its stream's name."""
    sealed = await vault.seal(events)
    return [
        NewEvent(vault.stream_of_event(event), event_name(type(event)), encode(kept))
        for event, kept in zip(events, sealed, strict=True)
    ]


def _answer_again(known: Duplicate, fingerprint: str) -> Outcome:
    if known.fingerprint != fingerprint:
        raise KeyReused
    kept = json.decode(known.outcome, type=_Kept)
    if kept.rejected:
        raise Rejected(kept.rejected, **kept.details)
    return Outcome(id=kept.id, position=known.last)
