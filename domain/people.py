"""Accounts: who may do what, who may do nothing until when, and where they are signed in."""

from datetime import datetime
from typing import Annotated, Literal, Self

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
    reason: AboutPerson = ""


class AccountDeactivated(Event):
    person_id: str
    reason: AboutPerson = ""


class AccountActivated(Event):
    person_id: str
    reason: AboutPerson = ""


class EmailAdded(Event):
    person_id: str
    email: AboutPerson


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
    banned_by: str = ""


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
EndReason = Literal[
    "signed_out",
    "revoked",
    "token_reused",
    "password_changed",
    "password_reset",
    "reset_requested",
    "account_deactivated",
]


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


class PasswordResetRequested(Event):
    """Somebody asked for a letter: whoever has the address, or an administrator with a reason."""

    person_id: str
    request_id: str = ""
    requested_by: str = ""
    reason: AboutPerson = ""


class PasswordReset(Event):
    """The password was replaced by whoever got the letter."""

    person_id: str


class Ban(Struct, frozen=True):
    """A ban in force: `until` is None when it has no end."""

    reason: str
    until: datetime | None
    by: str = ""


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
    )

    username: str = ""
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    """What was granted beside the roles."""
    active: bool = True
    email: str = ""
    email_confirmed: bool = False
    name: str = ""
    language: str = "en"
    time_zone: str = "UTC"
    ban: Ban | None = None
    bans: int = 0
    """How often they were banned, by which one ban is told from another."""
    passwords: int = 0
    """How often the password was replaced, by which a sign-in with an old one is told."""
    reset_requests: int = 0
    reset_request: str = ""
    """The last one that an administrator made."""

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
                return replace(self, email=event.email, email_confirmed=False)
            case EmailConfirmed():
                return replace(self, email_confirmed=True)
            case ProfileRevised():
                return replace(self, **revision(event))
            case PersonBanned():
                ban = Ban(reason=event.reason, until=event.until, by=event.banned_by)
                return replace(self, ban=ban, bans=self.bans + 1)
            case PersonUnbanned():
                return replace(self, ban=None)
            case PasswordChanged() | PasswordReset():
                return replace(self, passwords=self.passwords + 1)
            case PasswordResetRequested():
                request = event.request_id or self.reset_request
                return replace(self, reset_requests=self.reset_requests + 1, reset_request=request)
            case _:
                return self

    def is_banned(self, at: datetime) -> bool:
        return self.ban is not None and (self.ban.until is None or at < self.ban.until)


class EmailClaim(State):
    """An e-mail address that nobody else can take."""

    folds = (EmailClaimed,)
    key = "email"
    claim = True
    concealed = True

    person_id: str = ""

    def evolve(self, event: Event) -> Self:
        match event:
            case EmailClaimed():
                return replace(self, person_id=event.person_id)
            case _:
                return self


class UsernameClaim(State):
    """A user name that nobody else can take."""

    folds = (UsernameClaimed,)
    key = "username"
    claim = True
    concealed = True

    person_id: str = ""

    def evolve(self, event: Event) -> Self:
        match event:
            case UsernameClaimed():
                return replace(self, person_id=event.person_id)
            case _:
                return self


class Session(State):
    """A device or a browser that somebody signed in from."""

    folds = (SessionStarted, SessionEnded)

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
