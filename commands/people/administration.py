"""What administrators do about accounts: roles, switching them off, passwords asked anew."""

from collections.abc import Iterator

from commands.kernel import Command, Context, Job, NewId, command, job, permissions_of, policy
from commands.people import Roles
from commands.people.bans import change_of
from commands.tenancy import Permissions
from domain.catalogue import Reason
from domain.kernel import Event, require
from domain.people import (
    AccountActivated,
    AccountDeactivated,
    EndReason,
    PasswordResetRequested,
    Person,
    RolesAssigned,
)
from domain.tenancy import PERMISSIONS, Members


@command(
    put="/admin/users/{person_id}", needs="people.administer", person_id=Person, tenant=Members
)
class AssignRoles(Command):
    """Say which roles a person has, and which permissions beside them."""

    person_id: str
    roles: Roles
    permissions: Permissions = ()
    reason: Reason

    def decide(self, person: Person, members: Members, ctx: Context) -> Iterator[Event]:
        roles, beside = frozenset(self.roles), frozenset(self.permissions)
        for role in self.roles:
            require(ctx.tenant.has_role(role), "role_unknown", role=role)
        require(beside <= PERMISSIONS, "permission_unknown", unknown=sorted(beside - PERMISSIONS))
        moved = (ctx.tenant.granted(role) for role in roles ^ frozenset(person.roles))
        require(ctx.holds((beside ^ person.permissions).union(*moved)), "beyond_you")
        if (roles, beside) != (frozenset(person.roles), person.permissions):
            event = RolesAssigned(
                person_id=self.person_id,
                roles=tuple(dict.fromkeys(self.roles)),
                permissions=tuple(sorted(beside)),
                reason=self.reason,
            )
            yield from change_of(self.person_id, person, event, members, ctx)


def require_reach(person_id: str, person: Person, ctx: Context) -> None:
    """Refuse what somebody does to their own account, or to one that may more than theirs."""
    require(person_id != ctx.actor, "own_account")
    require(ctx.holds(permissions_of(person, ctx.tenant)), "beyond_you")


@command(
    patch="/admin/users/{person_id}/toggle-active",
    needs="people.administer",
    person_id=Person,
    tenant=Members,
)
class ToggleActive(Command):
    """Switch an account on or off."""

    person_id: str
    is_active: bool
    reason: Reason

    def decide(self, person: Person, members: Members, ctx: Context) -> Iterator[Event]:
        require_reach(self.person_id, person, ctx)
        if person.active != self.is_active:
            kind = AccountActivated if self.is_active else AccountDeactivated
            event = kind(person_id=self.person_id, reason=self.reason)
            yield from change_of(self.person_id, person, event, members, ctx)


@command(
    post="/admin/users/{person_id}/reset-password", needs="people.administer", person_id=Person
)
class SendPasswordReset(Command):
    """Sign a person out everywhere, and send them a letter to choose a new password by."""

    request_id: NewId = ""
    person_id: str
    reason: Reason

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        require_reach(self.person_id, person, ctx)
        require(person.email, "email_missing")
        if person.reset_request != self.request_id:
            yield PasswordResetRequested(
                person_id=self.person_id,
                request_id=self.request_id,
                requested_by=ctx.actor,
                reason=self.reason,
            )


@job
class EndSessions(Job):
    """Sign somebody out everywhere."""

    person_id: str
    reason: EndReason


@policy(AccountDeactivated)
def sign_out_deactivated(event: AccountDeactivated) -> Iterator[Job]:
    """Sessions from before an account was switched off do not come back with it."""
    yield EndSessions(person_id=event.person_id, reason="account_deactivated")


@policy(PasswordResetRequested)
def sign_out_before_reset(event: PasswordResetRequested) -> Iterator[Job]:
    """Where an administrator asks, somebody else may be in the account."""
    if event.requested_by:
        yield EndSessions(person_id=event.person_id, reason="reset_requested")
