"""Bans: made, lifted, ended on time, and what follows a hostile archive."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from commands.kernel import (
    Command,
    Context,
    Job,
    command,
    job,
    policy,
)
from commands.people.letters import SendLetter
from commands.tenancy import administered
from domain.catalogue import ChapterRefused, Reason
from domain.kernel import Event, require
from domain.people import (
    Person,
    PersonBanned,
    PersonUnbanned,
)
from domain.tenancy import ADMINISTRATOR, Members


@command(post="/people/{person_id}/ban", needs="people.ban", person_id=Person, tenant=Members)
class BanPerson(Command):
    """Ban a person, for good or until a moment."""

    person_id: str
    reason: Reason
    until: Annotated[datetime, Meta(tz=True)] | None = None

    def decide(self, person: Person, members: Members, ctx: Context) -> Iterator[Event]:
        require(self.person_id != ctx.actor, "own_ban")
        require(
            ADMINISTRATOR not in person.roles or ctx.may("people.administer"),
            "administrator_protected",
        )
        require(self.until is None or self.until > ctx.at, "until_in_the_past")
        in_force = person.ban is not None and person.is_banned(ctx.at)
        if in_force and person.ban is not None and person.ban.until == self.until:
            return
        event = PersonBanned(
            person_id=self.person_id, reason=self.reason, until=self.until, banned_by=ctx.actor
        )
        yield from change_of(self.person_id, person, event, members, ctx)


@command(post="/people/{person_id}/unban", needs="people.ban", person_id=Person, tenant=Members)
class UnbanPerson(Command):
    """Lift a ban."""

    person_id: str
    reason: Reason | None = None

    def decide(self, person: Person, members: Members, ctx: Context) -> Iterator[Event]:
        require(self.person_id != ctx.actor, "own_ban")
        if person.ban is not None:
            event = PersonUnbanned(person_id=self.person_id, reason=self.reason or "")
            yield from change_of(self.person_id, person, event, members, ctx)


@command(person_id=Person, tenant=Members)
class EndBan(Command):
    """Lift a ban whose end has come, unless it was lifted or changed before."""

    person_id: str
    end: datetime

    def decide(self, person: Person, members: Members, ctx: Context) -> Iterator[Event]:
        if person.ban is not None and person.ban.until == self.end:
            event = PersonUnbanned(person_id=self.person_id)
            yield from change_of(self.person_id, person, event, members, ctx)


@policy(ChapterRefused)
def ban_malicious_uploader(event: ChapterRefused) -> Iterator[Command]:
    """A ban follows proven malice only, never a malformed file."""
    if event.malicious:
        codes = ", ".join(finding.code for finding in event.findings)
        yield BanPerson(
            person_id=event.uploaded_by, reason=f"hostile archive ({codes}): {event.chapter_id}"
        )


@job
class LiftBan(Job):
    """Lift a ban when its end has come."""

    person_id: str
    end: datetime

    def due(self) -> datetime | None:
        return self.end


@policy(PersonBanned)
def tell_of_ban(event: PersonBanned) -> Iterator[Job]:
    """Whoever is banned is told why and for how long, and a ban that ends is lifted then."""
    yield SendLetter(person_id=event.person_id, letter="banned_until" if event.until else "banned")
    if event.until is not None:
        yield LiftBan(person_id=event.person_id, end=event.until)


def change_of(
    person_id: str, person: Person, event: Event, members: Members, ctx: Context
) -> Iterator[Event]:
    """A change of an account, and what follows for who can administer the organisation."""
    yield event
    after = person.evolve(event)
    able = ADMINISTRATOR in after.roles and after.active and after.ban is None
    yield from administered(person_id, members, ctx, able=able)
