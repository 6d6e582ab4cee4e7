"""Accounts, sessions and bans: what may be asked, and the ban that follows a hostile archive."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from commands.kernel import Command, Context, NewId, check_standing, command, policy
from domain.catalogue import ChapterRefused, Reason
from domain.kernel import Event, require
from domain.people import (
    AccountCreated,
    EndReason,
    PasswordChanged,
    PasswordReset,
    Person,
    PersonBanned,
    PersonUnbanned,
    Role,
    Session,
    SessionEnded,
    SessionKind,
    SessionStarted,
    Username,
    UsernameClaim,
    UsernameClaimed,
)


@command(needs="people.create", username=UsernameClaim, person_id=Person)
class CreateAccount(Command):
    """Create an account; its password is kept outside the log."""

    person_id: NewId = ""
    username: Username
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=5)]

    def decide(self, claim: UsernameClaim, person: Person, ctx: Context) -> Iterator[Event]:
        if claim.person_id == self.person_id:
            return
        require(not claim.person_id, "username_taken")
        yield UsernameClaimed(username=self.username, person_id=self.person_id)
        yield AccountCreated(
            person_id=self.person_id, username=self.username, roles=tuple(dict.fromkeys(self.roles))
        )


@command(post="/people/{person_id}/ban", needs="people.ban", person_id=Person)
class BanPerson(Command):
    """Ban a person, for good or until a moment."""

    person_id: str
    reason: Reason
    until: Annotated[datetime, Meta(tz=True)] | None = None

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        require(self.person_id != ctx.actor, "own_ban")
        require(
            "people.create" not in person.permissions or ctx.may("people.create"),
            "administrator_protected",
        )
        require(self.until is None or self.until > ctx.at, "until_in_the_past")
        in_force = person.ban is not None and person.is_banned(ctx.at)
        if in_force and person.ban is not None and person.ban.until == self.until:
            return
        yield PersonBanned(person_id=self.person_id, reason=self.reason, until=self.until)


@command(post="/people/{person_id}/unban", needs="people.ban", person_id=Person)
class UnbanPerson(Command):
    """Lift a ban."""

    person_id: str
    reason: Reason | None = None

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        require(self.person_id != ctx.actor, "own_ban")
        if person.ban is not None:
            yield PersonUnbanned(person_id=self.person_id, reason=self.reason or "")


@command(session_id=Session, person_id=Person)
class StartSession(Command):
    """Sign somebody in whose password was right when it had been replaced `passwords` times."""

    session_id: NewId = ""
    person_id: str
    passwords: int
    kind: SessionKind
    user_agent: str = ""
    address: str = ""

    def decide(self, session: Session, person: Person, ctx: Context) -> Iterator[Event]:
        check_standing(person, ctx.at)
        require(person.passwords == self.passwords, "invalid_credentials")
        yield SessionStarted(
            session_id=self.session_id,
            person_id=self.person_id,
            kind=self.kind,
            user_agent=self.user_agent,
            address=self.address,
        )


@command(session_id=Session)
class EndSession(Command):
    """Sign a device or a browser out."""

    session_id: str
    reason: EndReason

    def decide(self, session: Session, ctx: Context) -> Iterator[Event]:
        if not session.ended:
            yield SessionEnded(
                session_id=self.session_id, person_id=session.person_id, reason=self.reason
            )


@command(person_id=Person)
class ReplacePassword(Command):
    """Note that a person's password is another one now."""

    person_id: str
    forgotten: bool

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        event = PasswordReset if self.forgotten else PasswordChanged
        yield event(person_id=self.person_id)


@policy(ChapterRefused)
def ban_malicious_uploader(event: ChapterRefused) -> Iterator[Command]:
    """A ban follows proven malice only, never a malformed file."""
    if event.malicious:
        codes = ", ".join(finding.code for finding in event.findings)
        yield BanPerson(
            person_id=event.uploaded_by, reason=f"hostile archive ({codes}): {event.chapter_id}"
        )
