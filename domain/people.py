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
    with_password: bool = True


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
    confirmed: bool = False
    """Whether somebody who is trusted in this has seen to it already."""


class EmailConfirmed(Event):
    """Whoever got the letter to the address has answered it."""

    person_id: str


class ProfileRevised(Event):
    """Only the fields that changed are set."""

    person_id: str
    name: Annotated[str | UnsetType, Personal("person_id")] = UNSET
    language: Annotated[str | UnsetType, Personal("person_id")] = UNSET
    time_zone: Annotated[str | UnsetType, Personal("person_id")] = UNSET


class AvatarChanged(Event):
    """The picture of a person is another one now, or none, where it has no id."""

    person_id: str
    picture_id: str = ""
    sha256: AboutPerson = ""
    replaced: str = ""
    """The id of the picture before, if there was one."""


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


class IdentityLinked(Event):
    """From now on a person signs in by an account at another provider, too."""

    person_id: str
    identity_id: str
    issuer: str
    subject: AboutPerson
    email: AboutPerson


class IdentityUnlinked(Event):
    person_id: str
    identity_id: str


class IdentityClaimed(Event):
    identity: AboutPerson
    person_id: str


class IdentityReleased(Event):
    identity: AboutPerson
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
    identity_id: str = ""
    """By which of the person's identities, where it was not by a password."""


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


class SecondFactorAdded(Event):
    """From here on the password alone signs nobody in; the secret is kept outside the log."""

    person_id: str
    factor_id: str


class SecondFactorRemoved(Event):
    person_id: str
    factor_id: str


class RecoveryCodesRenewed(Event):
    """Other codes stand in for the second factor now, and those of before for nothing."""

    person_id: str


class RecoveryCodeUsed(Event):
    """A code that is good once stood in for the second factor."""

    person_id: str
    code_id: str


class Ban(Struct, frozen=True):
    """A ban in force: `until` is None when it has no end."""

    reason: str
    until: datetime | None
    by: str = ""


class Identity(Struct, frozen=True):
    """An account at another provider, by which its person signs in."""

    id: str
    issuer: str
    subject: str
    email: str
    """The address that it had when it was linked."""


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
        AvatarChanged,
        PersonBanned,
        PersonUnbanned,
        PasswordChanged,
        PasswordResetRequested,
        PasswordReset,
        IdentityLinked,
        IdentityUnlinked,
        SecondFactorAdded,
        SecondFactorRemoved,
        RecoveryCodesRenewed,
        RecoveryCodeUsed,
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
    avatar: str = ""
    """The digest of the picture; empty where there is none, or the person was forgotten."""
    avatar_id: str = ""
    ban: Ban | None = None
    bans: int = 0
    """How often they were banned, by which one ban is told from another."""
    passwords: int = 0
    """How often the password was replaced, by which a sign-in with an old one is told."""
    reset_requests: int = 0
    has_password: bool = False
    identities: tuple[Identity, ...] = ()
    second_factor: str = ""
    """Which second factor is asked for beside the password, if any."""
    renewals: int = 0
    """How often the recovery codes were replaced."""
    used_codes: frozenset[str] = frozenset()
    reset_request: str = ""
    """The last one that an administrator made."""

    def evolve(self, event: Event) -> Self:
        match event:
            case AccountCreated():
                return replace(
                    self,
                    username=event.username,
                    roles=event.roles,
                    has_password=event.with_password,
                )
            case RolesAssigned():
                beside = frozenset(event.permissions)
                return replace(self, roles=event.roles, permissions=beside)
            case AccountDeactivated() | AccountActivated():
                return replace(self, active=isinstance(event, AccountActivated))
            case EmailAdded():
                return replace(self, email=event.email, email_confirmed=event.confirmed)
            case EmailConfirmed():
                return replace(self, email_confirmed=True)
            case ProfileRevised():
                return replace(self, **revision(event))
            case AvatarChanged():
                return replace(self, avatar=event.sha256, avatar_id=event.picture_id)
            case PersonBanned():
                ban = Ban(reason=event.reason, until=event.until, by=event.banned_by)
                return replace(self, ban=ban, bans=self.bans + 1)
            case PersonUnbanned():
                return replace(self, ban=None)
            case PasswordChanged() | PasswordReset():
                return replace(self, passwords=self.passwords + 1, has_password=True)
            case PasswordResetRequested():
                request = event.request_id or self.reset_request
                return replace(self, reset_requests=self.reset_requests + 1, reset_request=request)
            case IdentityLinked():
                linked = Identity(event.identity_id, event.issuer, event.subject, event.email)
                return replace(self, identities=(*self.identities, linked))
            case IdentityUnlinked():
                kept = tuple(one for one in self.identities if one.id != event.identity_id)
                return replace(self, identities=kept)
            case SecondFactorAdded():
                return replace(self, second_factor=event.factor_id, used_codes=frozenset())
            case SecondFactorRemoved():
                return replace(self, second_factor="")
            case RecoveryCodesRenewed():
                return replace(self, renewals=self.renewals + 1, used_codes=frozenset())
            case RecoveryCodeUsed():
                return replace(self, used_codes=self.used_codes | {event.code_id})
            case _:
                return self

    def is_banned(self, at: datetime) -> bool:
        return self.ban is not None and (self.ban.until is None or at < self.ban.until)

    def identity(self, identity_id: str) -> Identity | None:
        return next((one for one in self.identities if one.id == identity_id), None)


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


class IdentityClaim(State):
    """An account at another provider that opens one account here, and no other."""

    folds = (IdentityClaimed, IdentityReleased)
    key = "identity"
    claim = True
    concealed = True

    person_id: str = ""

    def evolve(self, event: Event) -> Self:
        match event:
            case IdentityClaimed():
                return replace(self, person_id=event.person_id)
            case IdentityReleased():
                return replace(self, person_id="")
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


def identity_at(issuer: str, subject: str) -> str:
    """What an account at a provider is called among those of all providers."""
    return f"{issuer}#{subject}"


def revision(event: ProfileRevised) -> dict[str, str]:
    """What a change of a profile sets."""
    said = {"name": event.name, "language": event.language, "time_zone": event.time_zone}
    return {field: value for field, value in said.items() if isinstance(value, str)}
