"""Appeals: what may be asked about them, and the letters that follow."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from commands.kernel import Command, Context, Job, NotFound, command, policy
from commands.people.bans import change_of
from commands.people.letters import SendLetter
from domain.appeals import Appeal, AppealAccepted, AppealLodged, AppealRejected, appeal_of
from domain.catalogue import Note, Reason
from domain.kernel import Event, Rejected, require
from domain.people import Person, PersonUnbanned
from domain.tenancy import Members

AppealText = Annotated[str, Meta(min_length=1, max_length=4_000, pattern=r"\S")]


@command(appeal_id=Appeal, person_id=Person)
class LodgeAppeal(Command):
    """Say something against one's ban, which is the person's `ban`-th."""

    person_id: str
    ban: int
    text: AppealText

    @property
    def appeal_id(self) -> str:
        """The one appeal that there can be against this ban."""
        return appeal_of(self.person_id, self.ban)

    def decide(self, appeal: Appeal, person: Person, ctx: Context) -> Iterator[Event]:
        in_force = person.bans == self.ban and person.is_banned(ctx.at)
        if person.ban is None or not in_force:
            raise Rejected("not_banned")
        require(appeal.status == "absent", "appeal_lodged")
        yield AppealLodged(
            appeal_id=self.appeal_id,
            person_id=self.person_id,
            ban=self.ban,
            banned_by=person.ban.by,
            text=self.text,
        )


@command(
    post="/appeals/{appeal_id}/acceptance",
    needs="people.ban",
    appeal_id=Appeal,
    person_id=Person,
    tenant=Members,
)
class AcceptAppeal(Command):
    """Accept an appeal, and lift the ban if it is still the same."""

    appeal_id: str
    note: Note = ""

    def decide(
        self, appeal: Appeal, person: Person, members: Members, ctx: Context
    ) -> Iterator[Event]:
        require_decidable(appeal, ctx, "accepted")
        if appeal.status == "accepted":
            return
        yield AppealAccepted(appeal_id=self.appeal_id, person_id=appeal.person_id, note=self.note)
        if person.ban is not None and person.bans == appeal.ban:
            event = PersonUnbanned(person_id=appeal.person_id, reason=self.note)
            yield from change_of(appeal.person_id, person, event, members, ctx)


@command(
    post="/appeals/{appeal_id}/rejection",
    needs="people.ban",
    appeal_id=Appeal,
)
class RejectAppeal(Command):
    """Reject an appeal, with the reason that the person is told."""

    appeal_id: str
    reason: Reason

    def decide(self, appeal: Appeal, ctx: Context) -> Iterator[Event]:
        require_decidable(appeal, ctx, "rejected")
        if appeal.status == "open":
            yield AppealRejected(
                appeal_id=self.appeal_id, person_id=appeal.person_id, reason=self.reason
            )


def require_decidable(appeal: Appeal, ctx: Context, decision: str) -> None:
    """Refuse a decision that comes after another, or that is about one's own."""
    if appeal.status == "absent":
        raise NotFound("appeal")
    require(appeal.status in ("open", decision), "appeal_decided")
    require(appeal.banned_by != ctx.actor, "own_ban_decision")
    require(appeal.person_id != ctx.actor, "own_appeal")


@policy(AppealAccepted)
def tell_of_acceptance(event: AppealAccepted) -> Iterator[Job]:
    """Whoever appealed is told what came of it."""
    yield SendLetter(person_id=event.person_id, letter="appeal_accepted", about=event.appeal_id)


@policy(AppealRejected)
def tell_of_rejection(event: AppealRejected) -> Iterator[Job]:
    """Whoever appealed is told what came of it."""
    yield SendLetter(person_id=event.person_id, letter="appeal_rejected", about=event.appeal_id)
