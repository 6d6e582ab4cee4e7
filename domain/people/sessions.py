"""Where somebody is signed in."""

from typing import Literal, Self

from msgspec.structs import replace

from domain.kernel import Event, State
from domain.people.words import AboutPerson

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
