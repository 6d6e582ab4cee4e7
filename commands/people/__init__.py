"""Accounts, sessions and bans: what may be asked, and the ban that follows a hostile archive."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Annotated, Literal
from zoneinfo import available_timezones

from msgspec import UNSET, Meta, UnsetType

from commands.kernel import (
    Command,
    Context,
    Job,
    NewId,
    check_standing,
    command,
    job,
    policy,
)
from commands.tenancy import administered, joined
from domain.catalogue import ChapterRefused, Reason
from domain.kernel import Event, require
from domain.people import (
    AccountCreated,
    EmailAdded,
    EmailClaim,
    EmailClaimed,
    EmailConfirmed,
    EndReason,
    Name,
    PasswordChanged,
    PasswordReset,
    PasswordResetRequested,
    Person,
    PersonBanned,
    PersonUnbanned,
    ProfileRevised,
    SecondFactorAdded,
    SecondFactorRemoved,
    Session,
    SessionEnded,
    SessionKind,
    SessionStarted,
    Tongue,
    Username,
    UsernameClaim,
    UsernameClaimed,
)
from domain.tenancy import ADMINISTRATOR, Members, RoleName

Roles = Annotated[tuple[RoleName, ...], Meta(min_length=1, max_length=10)]


@command(needs="people.create", username=UsernameClaim, person_id=Person, tenant=Members)
class CreateAccount(Command):
    """Create an account; its password is kept outside the log."""

    person_id: NewId = ""
    username: Username
    roles: Roles

    def decide(
        self, claim: UsernameClaim, person: Person, members: Members, ctx: Context
    ) -> Iterator[Event]:
        if claim.person_id == self.person_id:
            return
        require(not claim.person_id, "username_taken")
        roles = grantable(self.roles, ctx)
        yield UsernameClaimed(username=self.username, person_id=self.person_id)
        yield AccountCreated(person_id=self.person_id, username=self.username, roles=roles)
        yield from joined(self.person_id, roles, members, ctx)


@command(username=UsernameClaim, email=EmailClaim, person_id=Person, tenant=Members)
class Register(Command):
    """Make an account for oneself; everybody begins as a reader."""

    person_id: NewId = ""
    username: Username
    email: str
    name: Name = ""
    language: Tongue = "en"

    def decide(
        self,
        name: UsernameClaim,
        address: EmailClaim,
        person: Person,
        members: Members,
        ctx: Context,
    ) -> Iterator[Event]:
        require(not name.person_id, "username_taken")
        require(not address.person_id, "email_taken")
        yield UsernameClaimed(username=self.username, person_id=self.person_id)
        yield EmailClaimed(email=self.email, person_id=self.person_id)
        yield AccountCreated(person_id=self.person_id, username=self.username, roles=("reader",))
        yield ProfileRevised(person_id=self.person_id, name=self.name, language=self.language)
        yield EmailAdded(person_id=self.person_id, email=self.email)
        yield from joined(self.person_id, ("reader",), members, ctx)


def grantable(roles: tuple[str, ...], ctx: Context) -> tuple[str, ...]:
    """Roles that there are, each once, and that grant nothing which whoever asks does not hold."""
    for role in roles:
        require(ctx.tenant.has_role(role), "role_unknown", role=role)
        require(ctx.holds(ctx.tenant.granted(role)), "beyond_you")
    return tuple(dict.fromkeys(roles))


@command(person_id=Person)
class ConfirmEmail(Command):
    """Note that a person gets the letters to their address."""

    person_id: str

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if not person.email_confirmed:
            yield EmailConfirmed(person_id=self.person_id)


@command(patch="/me", actor=Person)
class ReviseProfile(Command):
    """Change one's own name, language or time zone."""

    name: Name | UnsetType = UNSET
    language: Tongue | UnsetType = UNSET
    time_zone: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        zone = self.time_zone
        require(zone is UNSET or zone in _time_zones(), "time_zone_unknown")
        changed = {
            field: value
            for field in self.__struct_fields__
            if (value := getattr(self, field)) not in (UNSET, getattr(person, field))
        }
        if changed:
            yield ProfileRevised(person_id=ctx.actor, **changed)


@cache
def _time_zones() -> set[str]:
    return available_timezones()


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


@command(session_id=Session, person_id=Person)
class StartSession(Command):
    """Sign somebody in whose password was right when it had been replaced `passwords` times.

    `second_factor` is the one that they showed beside it.
    """

    session_id: NewId = ""
    person_id: str
    passwords: int
    kind: SessionKind
    second_factor: str = ""
    user_agent: str = ""
    address: str = ""
    identity_id: str = ""

    def decide(self, session: Session, person: Person, ctx: Context) -> Iterator[Event]:
        if session.person_id:
            return
        check_standing(person, ctx.at)
        require(person.passwords == self.passwords, "invalid_credentials")
        require(not self.identity_id or person.identity(self.identity_id), "identity_not_found")
        require(person.second_factor in ("", self.second_factor), "second_factor_required")
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
    reason: EndReason

    def decide(self, session: Session, ctx: Context) -> Iterator[Event]:
        if not session.ended:
            yield SessionEnded(
                session_id=self.session_id, person_id=session.person_id, reason=self.reason
            )


@command(person_id=Person)
class ReplacePassword(Command):
    """Note that a person's password, which had been replaced `passwords` times, is another now."""

    person_id: str
    passwords: int
    forgotten: bool

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if person.passwords == self.passwords:
            event = PasswordReset if self.forgotten else PasswordChanged
            yield event(person_id=self.person_id)


@command(person_id=Person)
class RequestPasswordReset(Command):
    """Ask for a letter by which the password can be replaced, after `requests` earlier ones."""

    person_id: str
    requests: int

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if person.reset_requests == self.requests:
            yield PasswordResetRequested(person_id=self.person_id)


Letter = Literal[
    "appeal_accepted",
    "appeal_rejected",
    "banned",
    "banned_until",
    "confirm_email",
    "password_changed",
    "password_reset",
    "second_factor_added",
    "second_factor_removed",
]


@job
class SendLetter(Job):
    """Write to a person; what the letter opens is made when it is sent, and kept nowhere else."""

    person_id: str
    letter: Letter
    about: str = ""
    """The id of what the letter speaks of, where that is not the person."""


@policy(EmailAdded)
def ask_to_confirm(event: EmailAdded) -> Iterator[Job]:
    """An address is confirmed by whoever gets the letters to it."""
    if not event.confirmed:
        yield SendLetter(person_id=event.person_id, letter="confirm_email")


@policy(PasswordResetRequested)
def send_reset(event: PasswordResetRequested) -> Iterator[Job]:
    """A password is replaced by whoever gets the letters to the account's address."""
    yield SendLetter(person_id=event.person_id, letter="password_reset")


@policy(PasswordChanged)
def tell_of_change(event: PasswordChanged) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="password_changed")


@policy(PasswordReset)
def tell_of_reset(event: PasswordReset) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="password_changed")


@policy(SecondFactorAdded)
def tell_of_second_factor(event: SecondFactorAdded) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="second_factor_added")


@policy(SecondFactorRemoved)
def tell_of_removal(event: SecondFactorRemoved) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="second_factor_removed")


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
