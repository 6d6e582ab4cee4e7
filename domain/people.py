"""Accounts: who may do what, who may do nothing until when, and where they are signed in."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from domain.kernel import Event, State
from domain.personal import Personal

Username = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?$",
        max_length=32,
        description="Lower-case letters, digits, `.`, `_` and `-`",
    ),
]

Email = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+$",
        max_length=200,
    ),
]
Name = Annotated[str, Meta(max_length=120, pattern=r"^[^\r\n]*$(?![\r\n])")]
Tongue = Literal["en", "ky", "ar", "so"]
"""A language in which the site speaks."""

AboutPerson = Annotated[str, Personal("person_id")]


class AccountCreated(Event):
    person_id: str
    username: AboutPerson
    roles: tuple[str, ...]


class RolesAssigned(Event):
    """From now on a person has these roles, and beside them these permissions."""

    person_id: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...] = ()
    reason: str = ""


class AccountDeactivated(Event):
    person_id: str
    reason: str = ""


class AccountActivated(Event):
    person_id: str
    reason: str = ""


class EmailAdded(Event):
    person_id: str
    email: AboutPerson
    confirmed: bool = False


class EmailConfirmed(Event):
    """Whoever got the letter to the address has answered it."""

    person_id: str


class ProfileRevised(Event):
    """Only the fields that changed are set."""

    person_id: str
    name: Annotated[str | UnsetType, Personal("person_id")] = UNSET
    language: Annotated[str | UnsetType, Personal("person_id")] = UNSET
    time_zone: Annotated[str | UnsetType, Personal("person_id")] = UNSET


class PersonBanned(Event):
    person_id: str
    reason: AboutPerson
    until: datetime | None = None


class PersonUnbanned(Event):
    person_id: str
    reason: AboutPerson = ""


class EmailClaimed(Event):
    email: AboutPerson
    person_id: str


class UsernameClaimed(Event):
    username: AboutPerson
    person_id: str


SessionKind = Literal["cookie", "token"]
EndReason = Literal["signed_out", "revoked", "token_reused", "password_changed", "password_reset"]


class SessionStarted(Event):
    """Somebody signed in; what proves it later is kept outside the log."""

    session_id: str
    person_id: str
    kind: SessionKind
    user_agent: AboutPerson = ""
    address: AboutPerson = ""


class SessionEnded(Event):
    session_id: str
    person_id: str
    reason: EndReason


class PasswordChanged(Event):
    person_id: str
    replaced_at: datetime | None = None


class PasswordResetRequested(Event):
    person_id: str


class PasswordReset(Event):
    """The password was replaced by whoever got the letter."""

    person_id: str
    replaced_at: datetime | None = None


class EmailRequested(Event):
    """An address takes the place of the one before once whoever gets the letters answers."""

    person_id: str
    email: AboutPerson
    asked_at: datetime


class EmailLetterRequested(Event):
    person_id: str
    asked_at: datetime


class EmailChanged(Event):
    """`former` is empty where there was no address before."""

    person_id: str
    email: AboutPerson
    former: AboutPerson = ""


class EmailReleased(Event):
    email: AboutPerson
    person_id: str


class UsernameReleased(Event):
    username: AboutPerson
    person_id: str


class AccountLeft(Event):
    """A person is no member of the organisation any more, by their own will."""

    person_id: str
    reason: AboutPerson = ""


class Ban(Struct, frozen=True):
    """A ban in force: `until` is None when it has no end."""

    reason: str
    until: datetime | None


_NOTHING_HELD: dict[str, Any] = {
    "username": "",
    "roles": (),
    "permissions": frozenset(),
    "email": "",
    "email_confirmed": False,
    "new_email": "",
}
"""What is left to somebody who left; a ban stays, for the day they want to come back."""


class Person(State):
    """An account as the rules see it."""

    folds = (
        AccountCreated,
        RolesAssigned,
        AccountDeactivated,
        AccountActivated,
        EmailAdded,
        EmailConfirmed,
        ProfileRevised,
        PersonBanned,
        PersonUnbanned,
        PasswordChanged,
        PasswordResetRequested,
        PasswordReset,
        EmailRequested,
        EmailLetterRequested,
        EmailChanged,
        AccountLeft,
    )

    username: str = ""
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    """What was granted beside the roles."""
    active: bool = True
    email: str = ""
    email_confirmed: bool = False
    new_email: str = ""
    """What takes the place of `email` once it is confirmed."""
    emails: int = 0
    """How many addresses were given so far, by which the letters to each are told apart."""
    email_asked_at: datetime | None = None
    name: str = ""
    language: str = "en"
    time_zone: str = "UTC"
    ban: Ban | None = None
    replaced: frozenset[datetime] = frozenset()
    """When the password was replaced, so that each time is recorded once."""
    reset_requests: int = 0

    def evolve(self, event: Event) -> Self:
        match event:
            case AccountCreated():
                return replace(self, username=event.username, roles=event.roles)
            case RolesAssigned():
                beside = frozenset(event.permissions)
                return replace(self, roles=event.roles, permissions=beside)
            case AccountDeactivated() | AccountActivated():
                return replace(self, active=isinstance(event, AccountActivated))
            case EmailAdded():
                return replace(
                    self,
                    email=event.email,
                    email_confirmed=event.confirmed,
                    emails=self.emails + 1,
                )
            case EmailConfirmed():
                return replace(self, email_confirmed=True)
            case EmailRequested():
                return replace(
                    self,
                    new_email=event.email,
                    emails=self.emails + 1,
                    email_asked_at=event.asked_at,
                )
            case EmailLetterRequested():
                return replace(self, email_asked_at=event.asked_at)
            case EmailChanged():
                return replace(self, email=event.email, email_confirmed=True, new_email="")
            case ProfileRevised():
                return replace(self, **revision(event))
            case PersonBanned():
                return replace(self, ban=Ban(reason=event.reason, until=event.until))
            case PersonUnbanned():
                return replace(self, ban=None)
            case PasswordChanged() | PasswordReset():
                at = {event.replaced_at} if event.replaced_at else set[datetime]()
                return replace(self, replaced=self.replaced | at)
            case PasswordResetRequested():
                return replace(self, reset_requests=self.reset_requests + 1)
            case AccountLeft():
                return replace(self, **_NOTHING_HELD)
            case _:
                return self

    def is_banned(self, at: datetime) -> bool:
        return self.ban is not None and (self.ban.until is None or at < self.ban.until)


class EmailClaim(State):
    """An e-mail address that nobody else can take."""

    folds = (EmailClaimed, EmailReleased)
    key = "email"
    claim = True
    concealed = True

    person_id: str = ""

    def evolve(self, event: Event) -> Self:
        match event:
            case EmailClaimed():
                return replace(self, person_id=event.person_id)
            case EmailReleased():
                return replace(self, person_id="")
            case _:
                return self


class UsernameClaim(State):
    """A user name that nobody else can take."""

    folds = (UsernameClaimed, UsernameReleased)
    key = "username"
    claim = True
    concealed = True

    person_id: str = ""

    def evolve(self, event: Event) -> Self:
        match event:
            case UsernameClaimed():
                return replace(self, person_id=event.person_id)
            case UsernameReleased():
                return replace(self, person_id="")
            case _:
                return self


class Session(State):
    """A device or a browser that somebody signed in from; it may end before it has begun."""

    folds = (SessionStarted, SessionEnded)
    claim = True

    person_id: str = ""
    kind: SessionKind = "token"
    user_agent: str = ""
    address: str = ""
    ended: bool = False

    def evolve(self, event: Event) -> Self:
        match event:
            case SessionStarted():
                return replace(
                    self,
                    person_id=event.person_id,
                    kind=event.kind,
                    user_agent=event.user_agent,
                    address=event.address,
                )
            case SessionEnded():
                return replace(self, ended=True)
            case _:
                return self


def same_address(email: str) -> str:
    """The one way in which an address is written, however people write it."""
    return email.lower()


def revision(event: ProfileRevised) -> dict[str, str]:
    """What a change of a profile sets."""
    said = {"name": event.name, "language": event.language, "time_zone": event.time_zone}
    return {field: value for field, value in said.items() if isinstance(value, str)}
