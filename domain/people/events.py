"""What happens to accounts."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, UnsetType

from domain.kernel import Event
from domain.people.words import AboutPerson
from domain.personal import Personal


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


class PasswordChanged(Event):
    person_id: str
    replaced_at: datetime | None = None


class PasswordResetRequested(Event):
    """Somebody asked for a letter: whoever has the address, or an administrator with a reason."""

    person_id: str
    request_id: str = ""
    requested_by: str = ""
    reason: AboutPerson = ""


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


class AccountLeft(Event):
    """A person is no member of the organisation any more, by their own will."""

    person_id: str
    reason: AboutPerson = ""


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
