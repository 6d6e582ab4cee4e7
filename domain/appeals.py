"""Appeals: what banned people say against their ban, and what is decided about it."""

from typing import Annotated, Literal, Self

from msgspec.structs import replace

from domain.kernel import Event, State
from domain.personal import Personal

AppealStatus = Literal["open", "accepted", "rejected"]

AboutPerson = Annotated[str, Personal("person_id")]


class AppealLodged(Event):
    appeal_id: str
    person_id: str
    ban: int
    banned_by: str
    text: AboutPerson


class AppealAccepted(Event):
    appeal_id: str
    person_id: str
    note: AboutPerson = ""


class AppealRejected(Event):
    appeal_id: str
    person_id: str
    reason: AboutPerson


class Appeal(State):
    """What was said against one ban of a person; there is one for each ban at most."""

    folds = (AppealLodged, AppealAccepted, AppealRejected)
    claim = True

    person_id: str = ""
    ban: int = 0
    banned_by: str = ""
    status: AppealStatus | Literal["absent"] = "absent"
    answer: str = ""
    """The note or the reason of whoever decided."""

    def evolve(self, event: Event) -> Self:
        match event:
            case AppealLodged():
                return replace(
                    self,
                    person_id=event.person_id,
                    ban=event.ban,
                    banned_by=event.banned_by,
                    status="open",
                )
            case AppealAccepted():
                return replace(self, status="accepted", answer=event.note)
            case AppealRejected():
                return replace(self, status="rejected", answer=event.reason)
            case _:
                return self


def appeal_of(person_id: str, ban: int) -> str:
    """The id of the appeal against somebody's ban of this number."""
    return f"{person_id}-{ban}"
