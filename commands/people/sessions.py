"""Where people are signed in: what begins and ends a session."""

from collections.abc import Iterator

from commands.kernel import (
    Command,
    Context,
    NewId,
    check_standing,
    command,
)
from domain.kernel import Event, require
from domain.people import (
    EndReason,
    Person,
    Session,
    SessionEnded,
    SessionKind,
    SessionStarted,
)


@command(session_id=Session, person_id=Person)
class StartSession(Command):
    """Sign somebody in, unless all their sessions ended while this one was on its way."""

    session_id: NewId = ""
    person_id: str
    kind: SessionKind
    second_factor: str = ""
    user_agent: str = ""
    address: str = ""
    identity_id: str = ""

    def decide(self, session: Session, person: Person, ctx: Context) -> Iterator[Event]:
        if session.person_id:
            return
        check_standing(person, ctx.at)
        require(not self.identity_id or person.identity(self.identity_id), "identity_not_found")
        require(person.second_factor in ("", self.second_factor), "second_factor_required")
        require(not session.ended, "invalid_credentials")
        yield SessionStarted(
            session_id=self.session_id,
            person_id=self.person_id,
            kind=self.kind,
            user_agent=self.user_agent,
            address=self.address,
            identity_id=self.identity_id,
        )


@command(session_id=Session)
class EndSession(Command):
    """Sign a device or a browser out."""

    session_id: str
    person_id: str
    reason: EndReason

    def decide(self, session: Session, ctx: Context) -> Iterator[Event]:
        if not session.ended:
            yield SessionEnded(
                session_id=self.session_id, person_id=self.person_id, reason=self.reason
            )
