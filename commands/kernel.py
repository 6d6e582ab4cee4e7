"""How commands, policies and jobs are declared, and what each declaration yields."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    dataclass_transform,
    get_args,
    get_type_hints,
)

from msgspec import Struct, StructMeta, field

from domain.kernel import Event, RegistryError, State, category, context_of
from domain.people import Ban, Person
from domain.tenancy import MAIN, Tenant

Method = Literal["POST", "PUT", "PATCH", "DELETE"]

_NEW_ID = "new id"
NewId = Annotated[str, _NEW_ID]
"""A field that the bus fills with a fresh id where it is empty; it is no part of a request."""

SYSTEM = "system"
"""The actor of what nobody signed in for: policies, jobs, the operator's command line."""


class Context(Struct, frozen=True, kw_only=True):
    """Who asks, when, in which organisation, and what else they may do there."""

    actor: str
    at: datetime
    permissions: frozenset[str] = frozenset()
    tenant_id: str = MAIN
    tenant: Tenant = Tenant()

    def may(self, permission: str) -> bool:
        return self.holds(frozenset({permission}))

    def holds(self, permissions: frozenset[str]) -> bool:
        return self.actor == SYSTEM or permissions <= self.permissions


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class CommandMeta(StructMeta):
    """Makes every command frozen, keyword-only, and strict about unknown fields."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        return super().__new__(
            mcls, name, bases, namespace, frozen=True, kw_only=True, forbid_unknown_fields=True
        )


class Command(Struct, metaclass=CommandMeta):
    """Something that may be asked; `decide` takes the states it reads, in order, and a Context."""

    decide: ClassVar[Callable[..., Iterable[Event] | None]]


class Job(Struct, metaclass=CommandMeta):
    """A side effect to be run by a worker, at least once, after the policy that asked for it."""

    def due(self) -> datetime | None:
        """The moment before which it is not run; None for at once."""
        return None


class Origin(Struct, frozen=True):
    """What a command or a job follows from: a place in a policy's answer to an event."""

    position: int
    tenant: str
    correlation_id: str
    policy: str
    number: int

    @property
    def key(self) -> str:
        """What no other command or job of the log's whole life follows from."""
        return f"{self.policy}:{self.position}:{self.number}"


class CommandSpec(Struct, frozen=True, kw_only=True):
    """What a `@command` declaration says."""

    cls: type[Command]
    name: str
    verb: str
    summary: str
    needs: str | None
    method: Method | None
    path: str
    status: int
    reads: Mapping[str, type[State]]
    path_fields: tuple[str, ...]
    body_fields: tuple[str, ...]
    new_id: str | None
    anybody: bool


class PolicySpec(Struct, frozen=True, kw_only=True):
    """What a `@policy` declaration says."""

    name: str
    event: type[Event]
    react: Callable[[Any], Iterable[Command | Job]]


C = TypeVar("C", bound=type[Command])
E = TypeVar("E", bound=Event)
J = TypeVar("J", bound=type[Job])

COMMANDS: dict[type[Command], CommandSpec] = {}
POLICIES: dict[str, PolicySpec] = {}
JOBS: dict[str, type[Job]] = {}


def command(
    *,
    needs: str | None = None,
    post: str = "",
    put: str = "",
    patch: str = "",
    delete: str = "",
    status: int = 200,
    anybody: bool = False,
    **reads: type[State],
) -> Callable[[C], C]:
    """Declare a command: its route, its permission, and the states that it reads.

    `needs` is the permission; None asks only for an account in good standing. A keyword in
    `reads` names where the id comes from: a field of the command, `actor`, `tenant`, or a field
    of a state named before it. A command without a route and a permission can be issued by policies
    and jobs only, unless `anybody` says that a route of its own takes it from every account.
    """
    routes: dict[Method, str] = {"POST": post, "PUT": put, "PATCH": patch, "DELETE": delete}

    def declare(cls: C) -> C:
        COMMANDS[cls] = _spec(cls, needs, routes, status, reads, anybody=anybody)
        return cls

    return declare


def _spec(
    cls: type[Command],
    needs: str | None,
    routes: Mapping[Method, str],
    status: int,
    reads: Mapping[str, type[State]],
    *,
    anybody: bool,
) -> CommandSpec:
    if not cls.__doc__:
        raise RegistryError(f"{cls.__name__} needs a docstring: it is the operation's summary")
    method, path = _route(routes)
    fields = cls.__struct_fields__
    path_fields = tuple(re.findall(r"{(\w+)}", path))
    new_ids = [name for name in fields if _is_new_id(cls, name)]
    return CommandSpec(
        cls=cls,
        name=f"{context_of(cls)}.{cls.__name__}",
        verb=re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower(),
        summary=cls.__doc__.strip().splitlines()[0],
        needs=needs,
        method=method,
        path=path,
        status=status,
        reads=dict(reads),
        path_fields=path_fields,
        body_fields=tuple(n for n in fields if n not in path_fields and n not in new_ids),
        new_id=new_ids[0] if new_ids else None,
        anybody=anybody,
    )


def _route(routes: Mapping[Method, str]) -> tuple[Method | None, str]:
    for method, path in routes.items():
        if path:
            return method, path
    return None, ""


def _is_new_id(cls: type[Command], name: str) -> bool:
    return _NEW_ID in get_args(get_type_hints(cls, include_extras=True)[name])


def policy(event: type[E]) -> Callable[[Callable[[E], Iterable[Command | Job]]], PolicySpec]:
    """Declare a reaction: a pure function from an event to commands and jobs."""

    def declare(react: Callable[[E], Iterable[Command | Job]]) -> PolicySpec:
        name = f"{context_of_function(react)}.{react.__name__}"
        if name in POLICIES:
            raise RegistryError(f"two policies are called {name}")
        POLICIES[name] = PolicySpec(name=name, event=event, react=react)
        return POLICIES[name]

    return declare


def job(cls: J) -> J:
    """Register a job under the name its queue entries carry."""
    JOBS[f"{context_of(cls)}.{cls.__name__}"] = cls
    return cls


def context_of_function(function: Callable[..., Any]) -> str:
    return function.__module__.split(".")[1]


class Loaded(Struct, frozen=True):
    """A stream's state, and the version and position that it stands at; 0 where it is absent."""

    stream: str
    state: State
    version: int = 0
    position: int = 0


class NotFound(Exception):
    """A stream that the command needs does not exist."""

    def __init__(self, noun: str) -> None:
        super().__init__(f"{noun}_not_found")
        self.code = f"{noun}_not_found"


class PermissionDenied(Exception):
    """The actor lacks the permission."""

    def __init__(self, permission: str) -> None:
        super().__init__(permission)
        self.permission = permission


class Banned(Exception):
    """The actor is banned."""

    def __init__(self, ban: Ban) -> None:
        super().__init__(ban.reason)
        self.ban = ban


class Deactivated(Exception):
    """The actor's account was switched off."""


class UnknownActor(Exception):
    """The actor has no account."""


def key_of(
    name: str, command: Command, actor: str, tenant_id: str, read: Mapping[str, Loaded]
) -> str:
    """The id that a read refers to: who asks and where, the command's, or a state's read before.

    Raises NotFound where that state's stream is absent.
    """
    if name in ("actor", "tenant"):
        return actor if name == "actor" else tenant_id
    value = getattr(command, name, None)
    if isinstance(value, str):
        return value
    for loaded in read.values():
        value = getattr(loaded.state, name, None)
        if isinstance(value, str):
            if loaded.version == 0:
                raise NotFound(category(type(loaded.state)))
            return value
    raise RegistryError(f"{type(command).__name__} has no {name} to read by")


def permissions_of(person: Person, tenant: Tenant) -> frozenset[str]:
    """What a person may do in an organisation: by each of their roles, and beside them."""
    return person.permissions.union(*(tenant.granted(role) for role in person.roles))


def within(scopes: frozenset[str] | None, permissions: frozenset[str]) -> frozenset[str]:
    """Permissions cut down to what a personal token is good for; None is good for all."""
    return permissions if scopes is None else permissions & scopes


def authorize(
    spec: CommandSpec,
    person: Person,
    tenant: Tenant,
    at: datetime,
    scopes: frozenset[str] | None = None,
) -> frozenset[str]:
    """The permissions of an account in good standing that may issue this command.

    Raises NotFound, UnknownActor, Deactivated, Banned, PermissionDenied.
    """
    check_open(tenant)
    check_standing(person, at)
    permissions = within(scopes, permissions_of(person, tenant))
    if spec.method is None and spec.needs is None and not spec.anybody:
        raise PermissionDenied(SYSTEM)
    if spec.needs is not None and spec.needs not in permissions:
        raise PermissionDenied(spec.needs)
    return permissions


def check_open(tenant: Tenant) -> None:
    """Refuse an organisation that was closed."""
    if tenant.closed:
        raise NotFound(category(Tenant))


def check_standing(person: Person, at: datetime) -> None:
    """Refuse an account that does not exist, was switched off, or is banned."""
    if not person.username:
        raise UnknownActor
    if not person.active:
        raise Deactivated
    if person.ban is not None and person.is_banned(at):
        raise Banned(person.ban)


def decide(command: Command, read: Mapping[str, Loaded], ctx: Context) -> tuple[Event, ...]:
    """The events that a command leads to, given what it declared to read.

    Raises Rejected when a rule refuses it, NotFound when a stream that it needs is absent.
    """
    spec = COMMANDS[type(command)]
    for name, loaded in read.items():
        if loaded.version == 0 and not loaded.state.claim and name != spec.new_id:
            raise NotFound(category(type(loaded.state)))
    return tuple(command.decide(*(loaded.state for loaded in read.values()), ctx) or ())
