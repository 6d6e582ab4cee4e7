"""Memberships: who was invited into an organisation, and what became of it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from msgspec.structs import replace

from domain.kernel import Event, State
from domain.personal import Personal

AboutInvited = Annotated[str, Personal("invitation_id")]
InvitationStatus = Literal["pending", "accepted", "withdrawn"]
INVITED_FOR = timedelta(days=7)


class InvitationSent(Event):
    """Who gets the letter may become a member, with these roles."""

    invitation_id: str
    email: AboutInvited
    roles: tuple[str, ...]
    language: str
    message: AboutInvited
    sent_by: str
    sent_at: datetime


class InvitationRenewed(Event):
    """Another letter was sent, by somebody who could have sent the first."""

    invitation_id: str
    sent_by: str
    sent_at: datetime


class InvitationWithdrawn(Event):
    invitation_id: str
    reason: AboutInvited = ""


class InvitationAccepted(Event):
    invitation_id: str
    person_id: str


class Invitation(State):
    """An offer to become a member of an organisation."""

    folds = (InvitationSent, InvitationRenewed, InvitationWithdrawn, InvitationAccepted)

    email: str = ""
    roles: tuple[str, ...] = ()
    language: str = "en"
    message: str = ""
    sent_by: str = ""
    sent_at: datetime = datetime.min.replace(tzinfo=UTC)
    status: InvitationStatus = "pending"

    def evolve(self, event: Event) -> Self:
        match event:
            case InvitationSent():
                said = {name: getattr(event, name) for name in ("email", "language", "message")}
                sent = {"sent_by": event.sent_by, "sent_at": event.sent_at}
                return replace(self, roles=event.roles, **said, **sent)
            case InvitationRenewed():
                return replace(self, sent_by=event.sent_by, sent_at=event.sent_at)
            case InvitationWithdrawn():
                return replace(self, status="withdrawn")
            case InvitationAccepted():
                return replace(self, status="accepted")
            case _:
                return self

    def is_open(self, at: datetime) -> bool:
        return self.status == "pending" and at < self.sent_at + INVITED_FOR
