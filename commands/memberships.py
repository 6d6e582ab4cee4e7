"""Memberships: inviting somebody into an organisation, coming in, and leaving."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from commands.kernel import (
    SYSTEM,
    Banned,
    Command,
    Context,
    Job,
    NewId,
    command,
    job,
    permissions_of,
    policy,
)
from commands.people import A_MINUTE, Roles, grantable
from commands.tenancy import joined
from domain.catalogue import Reason
from domain.kernel import Event, require
from domain.memberships import (
    Invitation,
    InvitationAccepted,
    InvitationRenewed,
    InvitationSent,
    InvitationWithdrawn,
)
from domain.people import (
    AccountCreated,
    AccountLeft,
    EmailAdded,
    EmailClaim,
    EmailClaimed,
    EmailReleased,
    Name,
    Person,
    ProfileRevised,
    Tongue,
    Username,
    UsernameClaim,
    UsernameClaimed,
    UsernameReleased,
)
from domain.tenancy import AdministratorDismissed, MemberLeft, Members, Tenant

INVITE = "people.create"

Message = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$(?![\r\n])")]
"""What whoever invites has to say, in one paragraph."""


@command(needs=INVITE, invitation_id=Invitation, email=EmailClaim)
class InviteMember(Command):
    """Invite somebody by a letter to become a member, with roles that one holds oneself."""

    invitation_id: NewId = ""
    email: str
    roles: Roles
    language: Tongue = "en"
    message: Message = ""

    def decide(self, invitation: Invitation, claim: EmailClaim, ctx: Context) -> Iterator[Event]:
        if invitation.sent_by:
            return
        require(not claim.person_id, "email_taken")
        yield InvitationSent(
            invitation_id=self.invitation_id,
            email=self.email,
            roles=grantable(self.roles, ctx),
            language=self.language,
            message=self.message,
            sent_by=ctx.actor,
            sent_at=ctx.at,
        )


@command(post="/admin/invitations/{invitation_id}/letter", needs=INVITE, invitation_id=Invitation)
class RenewInvitation(Command):
    """Send an invitation's letter again, once a minute at most; it is good for another week."""

    invitation_id: str

    def decide(self, invitation: Invitation, ctx: Context) -> Iterator[Event]:
        require(invitation.status == "pending", "invitation_closed")
        grantable(invitation.roles, ctx)
        if ctx.at >= invitation.sent_at + A_MINUTE:
            yield InvitationRenewed(
                invitation_id=self.invitation_id, sent_by=ctx.actor, sent_at=ctx.at
            )


@command(delete="/admin/invitations/{invitation_id}", needs=INVITE, invitation_id=Invitation)
class WithdrawInvitation(Command):
    """Take an invitation back; what its letters open is void."""

    invitation_id: str
    reason: Reason | None = None

    def decide(self, invitation: Invitation, ctx: Context) -> Iterator[Event]:
        if invitation.status == "withdrawn":
            return
        require(invitation.status == "pending", "invitation_closed")
        yield InvitationWithdrawn(invitation_id=self.invitation_id, reason=self.reason or "")


@command(
    invitation_id=Invitation,
    username=UsernameClaim,
    email=EmailClaim,
    person_id=Person,
    tenant=Members,
)
class AcceptInvitation(Command):
    """Become a member, as a new person or as one who belongs to another organisation.

    `addressed` says whether the invitation's address is known to be that person's.
    """

    person_id: NewId = ""
    invitation_id: str
    username: Username
    name: Name = ""
    language: Tongue = "en"
    addressed: bool = True

    def decide(
        self,
        invitation: Invitation,
        name: UsernameClaim,
        address: EmailClaim,
        person: Person,
        members: Members,
        ctx: Context,
    ) -> Iterator[Event]:
        require(invitation.is_open(ctx.at), "link_invalid")
        require(not person.username, "member_already")
        if person.ban is not None and person.is_banned(ctx.at):
            raise Banned(person.ban)
        require(not name.person_id, "username_taken")
        require(not self.addressed or not address.person_id, "email_taken")
        person_id, email = self.person_id, invitation.email
        yield UsernameClaimed(username=self.username, person_id=person_id)
        yield AccountCreated(person_id=person_id, username=self.username, roles=invitation.roles)
        yield ProfileRevised(person_id=person_id, name=self.name, language=self.language)
        if self.addressed:
            yield EmailClaimed(email=email, person_id=person_id)
            yield EmailAdded(person_id=person_id, email=email, confirmed=True)
        yield InvitationAccepted(invitation_id=self.invitation_id, person_id=person_id)
        yield from joined(person_id, invitation.roles, members, ctx)


def may_still_invite(sender: Person, invitation: Invitation, tenant: Tenant, at: datetime) -> bool:
    """Whether who sent an invitation could send it today, too."""
    if invitation.sent_by == SYSTEM:
        return True
    asked = frozenset({INVITE}).union(*(tenant.granted(role) for role in invitation.roles))
    in_standing = sender.username and sender.active and not sender.is_banned(at)
    return bool(in_standing) and asked <= permissions_of(sender, tenant)


@command(person_id=Person, username=UsernameClaim, email=EmailClaim, tenant=Members)
class LeaveOrganisation(Command):
    """Be no member of an organisation any more; name and address are free for others."""

    person_id: str
    reason: Reason | None = None

    def decide(
        self,
        person: Person,
        name: UsernameClaim,
        address: EmailClaim,
        members: Members,
        ctx: Context,
    ) -> Iterator[Event]:
        if not person.username:
            return
        is_administrator = self.person_id in members.administrators
        others = members.administrators - {self.person_id}
        require(others or not is_administrator, "last_administrator")
        yield UsernameReleased(username=person.username, person_id=self.person_id)
        if address.person_id == self.person_id:
            yield EmailReleased(email=person.email, person_id=self.person_id)
        yield AccountLeft(person_id=self.person_id, reason=self.reason or "")
        yield MemberLeft(tenant_id=ctx.tenant_id, person_id=self.person_id)
        if is_administrator:
            yield AdministratorDismissed(tenant_id=ctx.tenant_id, person_id=self.person_id)


@job
class SendInvitation(Job):
    """Write to somebody who is invited; what the letter opens is made when it is sent."""

    invitation_id: str


@policy(InvitationSent)
def send_invitation(event: InvitationSent) -> Iterator[Job]:
    """An invitation is a letter."""
    yield SendInvitation(invitation_id=event.invitation_id)


@policy(InvitationRenewed)
def send_invitation_again(event: InvitationRenewed) -> Iterator[Job]:
    """A letter may get lost."""
    yield SendInvitation(invitation_id=event.invitation_id)
