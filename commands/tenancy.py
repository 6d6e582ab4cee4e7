"""Tenants: what may be asked about an organisation, its roles and its plan."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from commands.kernel import Command, Context, Job, command, job, policy
from domain.catalogue import Reason
from domain.kernel import Event, require
from domain.tenancy import (
    ADMINISTRATOR,
    MAIN,
    PERMISSIONS,
    AdministratorAppointed,
    AdministratorDismissed,
    Colour,
    MemberJoined,
    Members,
    OrganisationName,
    Plan,
    PlanChanged,
    Registration,
    RoleDefined,
    RoleName,
    RoleRemoved,
    TenantClosed,
    TenantOpened,
    TenantRevised,
)

Permissions = Annotated[tuple[str, ...], Meta(max_length=100)]


@command()
class OpenTenant(Command):
    """Open an organisation under its subdomain, which no other had before."""

    name: OrganisationName
    plan: Plan

    def decide(self, ctx: Context) -> Iterator[Event]:
        if ctx.tenant.opened and not ctx.tenant.closed and ctx.tenant.name == self.name:
            return
        require(not ctx.tenant.opened, "tenant_exists")
        yield TenantOpened(tenant_id=ctx.tenant_id, name=self.name, plan=self.plan)


@command()
class ChangePlan(Command):
    """Put an organisation on another plan."""

    plan: Plan

    def decide(self, ctx: Context) -> Iterator[Event]:
        if ctx.tenant.plan != self.plan:
            yield PlanChanged(tenant_id=ctx.tenant_id, plan=self.plan)


@command()
class CloseTenant(Command):
    """Close an organisation for good."""

    reason: Reason

    def decide(self, ctx: Context) -> Iterator[Event]:
        require(ctx.tenant.opened and ctx.tenant_id != MAIN, "tenant_not_closable")
        if not ctx.tenant.closed:
            yield TenantClosed(tenant_id=ctx.tenant_id, reason=self.reason)


@command(patch="/tenant", needs="tenancy.administer")
class ReviseTenant(Command):
    """Change one's organisation's name, colours, or who may make an account in it."""

    name: OrganisationName | UnsetType = UNSET
    primary_colour: Colour | UnsetType = UNSET
    accent_colour: Colour | UnsetType = UNSET
    registration: Registration | UnsetType = UNSET

    def decide(self, ctx: Context) -> Iterator[Event]:
        changed = {
            field: value
            for field in self.__struct_fields__
            if (value := getattr(self, field)) not in (UNSET, getattr(ctx.tenant, field))
        }
        if changed:
            yield TenantRevised(tenant_id=ctx.tenant_id, **changed)


@command(put="/admin/roles/{role}", needs="people.administer")
class DefineRole(Command):
    """Say which permissions a role grants, a new one or a built-in one."""

    role: RoleName
    permissions: Permissions
    reason: Reason

    def decide(self, ctx: Context) -> Iterator[Event]:
        require(self.role != ADMINISTRATOR, "administrator_protected")
        asked = frozenset(self.permissions)
        require(asked <= PERMISSIONS, "permission_unknown", unknown=sorted(asked - PERMISSIONS))
        granted = ctx.tenant.granted(self.role)
        require(ctx.holds(asked | granted), "beyond_you")
        if ctx.tenant.roles.get(self.role) != asked:
            yield RoleDefined(
                tenant_id=ctx.tenant_id,
                role=self.role,
                permissions=tuple(sorted(asked)),
                reason=self.reason,
            )


@command(delete="/admin/roles/{role}", needs="people.administer")
class RemoveRole(Command):
    """Take a role away, or give a built-in one what it grants by itself."""

    role: RoleName
    reason: Reason | None = None

    def decide(self, ctx: Context) -> Iterator[Event]:
        require(ctx.holds(ctx.tenant.granted(self.role)), "beyond_you")
        if self.role in ctx.tenant.roles:
            yield RoleRemoved(tenant_id=ctx.tenant_id, role=self.role, reason=self.reason or "")


@job
class DiscardTenant(Job):
    """End the sessions of a closed organisation, and delete its files."""


@policy(TenantClosed)
def discard_tenant(event: TenantClosed) -> Iterator[Job]:
    """Of what was closed for good only the record stays."""
    yield DiscardTenant()


def joined(
    person_id: str, roles: tuple[str, ...], members: Members, ctx: Context
) -> Iterator[Event]:
    """What follows for an organisation when somebody becomes its member."""
    limit = ctx.tenant.limits.members
    require(limit is None or members.count < limit, "plan_members_reached", limit=limit)
    yield MemberJoined(tenant_id=ctx.tenant_id, person_id=person_id)
    if ADMINISTRATOR in roles:
        yield AdministratorAppointed(tenant_id=ctx.tenant_id, person_id=person_id)


def administered(person_id: str, members: Members, ctx: Context, *, able: bool) -> Iterator[Event]:
    """What follows for an organisation from whether somebody is able to administer it."""
    known = person_id in members.administrators
    if able and not known:
        yield AdministratorAppointed(tenant_id=ctx.tenant_id, person_id=person_id)
    if known and not able:
        require(len(members.administrators) > 1, "last_administrator")
        yield AdministratorDismissed(tenant_id=ctx.tenant_id, person_id=person_id)
