"""An account as the rules see it."""

from datetime import datetime
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

from domain.kernel import Event, State
from domain.people.events import (
    AccountActivated,
    AccountCreated,
    AccountDeactivated,
    AccountLeft,
    AvatarChanged,
    EmailAdded,
    EmailChanged,
    EmailConfirmed,
    EmailLetterRequested,
    EmailRequested,
    IdentityLinked,
    IdentityUnlinked,
    PasswordChanged,
    PasswordReset,
    PasswordResetRequested,
    PersonBanned,
    PersonUnbanned,
    ProfileRevised,
    RecoveryCodesRenewed,
    RecoveryCodeUsed,
    RolesAssigned,
    SecondFactorAdded,
    SecondFactorRemoved,
)


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
    avatar: str = ""
    """The digest of the picture; empty where there is none, or the person was forgotten."""
    avatar_id: str = ""
    ban: Ban | None = None
    bans: int = 0
    """How often they were banned, by which one ban is told from another."""
    replaced: frozenset[datetime] = frozenset()
    """When the password was replaced, so that each time is recorded once."""
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
            case AvatarChanged():
                return replace(self, avatar=event.sha256, avatar_id=event.picture_id)
            case PersonBanned():
                ban = Ban(reason=event.reason, until=event.until, by=event.banned_by)
                return replace(self, ban=ban, bans=self.bans + 1)
            case PersonUnbanned():
                return replace(self, ban=None)
            case PasswordChanged() | PasswordReset():
                at = {event.replaced_at} if event.replaced_at else set[datetime]()
                # Who knew the password before may have asked for another address.
                return replace(
                    self,
                    replaced=self.replaced | at,
                    has_password=True,
                    new_email="",
                    emails=self.emails + bool(self.new_email),
                )
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
            case AccountLeft():
                return replace(self, **_NOTHING_HELD)
            case _:
                return self

    def is_banned(self, at: datetime) -> bool:
        return self.ban is not None and (self.ban.until is None or at < self.ban.until)

    def identity(self, identity_id: str) -> Identity | None:
        return next((one for one in self.identities if one.id == identity_id), None)


def revision(event: ProfileRevised) -> dict[str, str]:
    """What a change of a profile sets."""
    said = {"name": event.name, "language": event.language, "time_zone": event.time_zone}
    return {field: value for field, value in said.items() if isinstance(value, str)}
