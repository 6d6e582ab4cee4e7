"""Names, addresses and accounts elsewhere, each of which one person has."""

from typing import Self

from msgspec.structs import replace

from domain.kernel import Event, State
from domain.people.words import AboutPerson


class EmailClaimed(Event):
    email: AboutPerson
    person_id: str


class UsernameClaimed(Event):
    username: AboutPerson
    person_id: str


class IdentityClaimed(Event):
    identity: AboutPerson
    person_id: str


class IdentityReleased(Event):
    identity: AboutPerson
    person_id: str


class EmailReleased(Event):
    email: AboutPerson
    person_id: str


class UsernameReleased(Event):
    username: AboutPerson
    person_id: str


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
