"""Tenants: the organisations that share one system, what each may do there, and its roles."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from domain.kernel import Event, State

MAIN = "main"
"""The tenant of whoever names none; it is always there."""

Subdomain = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$(?!\n)",
        max_length=32,
        description="Lower-case letters, digits and `-`",
    ),
]
Colour = Annotated[str, Meta(pattern=r"^#[0-9a-f]{6}$(?!\n)", description="As in `#1b2a49`")]
OrganisationName = Annotated[
    str, Meta(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f]*$(?!\n)")
]
RoleName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$(?!\n)", max_length=32)]

Registration = Literal["open", "invited", "closed"]
"""Who may make an account: anybody, whoever was invited, or only an administrator for others."""

Plan = Literal["basic", "pro", "enterprise"]


class Limits(Struct, frozen=True, kw_only=True):
    """What a plan allows; None is without a limit."""

    members: int | None
    storage_bytes: int | None


GIB = 1024**3

PLANS: Mapping[Plan, Limits] = {
    "basic": Limits(members=25, storage_bytes=5 * GIB),
    "pro": Limits(members=500, storage_bytes=200 * GIB),
    "enterprise": Limits(members=None, storage_bytes=None),
}

ADMINISTRATOR = "administrator"
"""The role that no tenant is without, and that grants every permission there is."""

_READER: frozenset[str] = frozenset()
_UPLOADER = _READER | {"catalogue.create", "catalogue.upload"}
_MODERATOR = _UPLOADER | {
    "catalogue.approve",
    "catalogue.publish",
    "moderation.read",
    "people.ban",
    "people.read",
}
_AUDITOR = _READER | {"audit.read", "people.read"}

ROLES: Mapping[str, frozenset[str]] = {
    "reader": _READER,
    "uploader": _UPLOADER,
    "moderator": _MODERATOR,
    "auditor": _AUDITOR,
    ADMINISTRATOR: _MODERATOR
    | _AUDITOR
    | {"people.create", "people.administer", "tenancy.administer"},
}
"""The permissions that each built-in role grants, where a tenant has not said otherwise."""

PERMISSIONS = ROLES[ADMINISTRATOR]
"""Every permission there is."""


class TenantOpened(Event):
    tenant_id: str
    name: str
    plan: Plan


class TenantRevised(Event):
    """Only the fields that changed are set."""

    tenant_id: str
    name: str | UnsetType = UNSET
    primary_colour: str | UnsetType = UNSET
    accent_colour: str | UnsetType = UNSET
    registration: Registration | UnsetType = UNSET
    reason: str = ""


class LogoChanged(Event):
    """An organisation's logo is another one now, or none, where it has no id."""

    tenant_id: str
    picture_id: str = ""
    sha256: str = ""
    replaced: str = ""
    """The id of the logo before, if there was one."""


class PlanChanged(Event):
    tenant_id: str
    plan: Plan


class TenantClosed(Event):
    tenant_id: str
    reason: str


class RoleDefined(Event):
    tenant_id: str
    role: str
    permissions: tuple[str, ...]
    reason: str = ""


class RoleRemoved(Event):
    """A built-in role grants again what it grants by itself."""

    tenant_id: str
    role: str
    reason: str = ""


class Tenant(State):
    """An organisation as the rules see it; one that nothing is recorded of is as it comes."""

    folds = (
        TenantOpened,
        TenantRevised,
        LogoChanged,
        PlanChanged,
        TenantClosed,
        RoleDefined,
        RoleRemoved,
    )
    claim = True

    name: str = ""
    plan: Plan = "enterprise"
    primary_colour: str = "#1b2a49"
    accent_colour: str = "#c8102e"
    logo: str = ""
    """The digest of the logo; empty where there is none."""
    logo_id: str = ""
    registration: Registration | None = None
    roles: Mapping[str, frozenset[str]] = {}
    opened: bool = False
    closed: bool = False

    def evolve(self, event: Event) -> Self:
        match event:
            case TenantOpened():
                return replace(self, name=event.name, plan=event.plan, opened=True)
            case TenantRevised():
                return replace(self, **revision(event))
            case LogoChanged():
                return replace(self, logo=event.sha256, logo_id=event.picture_id)
            case PlanChanged():
                return replace(self, plan=event.plan)
            case TenantClosed():
                return replace(self, closed=True)
            case RoleDefined():
                granted = frozenset(event.permissions)
                return replace(self, roles={**self.roles, event.role: granted})
            case RoleRemoved():
                kept = {name: one for name, one in self.roles.items() if name != event.role}
                return replace(self, roles=kept)
            case _:
                return self

    @property
    def limits(self) -> Limits:
        return PLANS[self.plan]

    def has_role(self, role: str) -> bool:
        return role in self.roles or role in ROLES

    def granted(self, role: str) -> frozenset[str]:
        """The permissions of a role; none for one that is there no more."""
        return self.roles.get(role, ROLES.get(role, frozenset()))


class MemberJoined(Event):
    tenant_id: str
    person_id: str


class MemberLeft(Event):
    tenant_id: str
    person_id: str


class AdministratorAppointed(Event):
    tenant_id: str
    person_id: str


class AdministratorDismissed(Event):
    tenant_id: str
    person_id: str


class Members(State):
    """How many people a tenant has, and who of them administers it."""

    folds = (MemberJoined, MemberLeft, AdministratorAppointed, AdministratorDismissed)
    key = "tenant_id"
    claim = True

    count: int = 0
    administrators: frozenset[str] = frozenset()

    def evolve(self, event: Event) -> Self:
        match event:
            case MemberJoined():
                return replace(self, count=self.count + 1)
            case MemberLeft():
                return replace(self, count=self.count - 1)
            case AdministratorAppointed():
                return replace(self, administrators=self.administrators | {event.person_id})
            case AdministratorDismissed():
                return replace(self, administrators=self.administrators - {event.person_id})
            case _:
                return self


def revision(event: TenantRevised) -> dict[str, Any]:
    """What a change of a tenant sets."""
    said = asdict(event)
    return {
        name: value
        for name, value in said.items()
        if value is not UNSET and name not in ("tenant_id", "reason")
    }
