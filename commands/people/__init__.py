"""Accounts: what may be asked about them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from msgspec import UNSET, Meta, UnsetType

from commands.kernel import (
    Command,
    Context,
    NewId,
    command,
)
from commands.tenancy import joined
from domain.kernel import Event, require
from domain.people import (
    AccountCreated,
    EmailAdded,
    EmailChanged,
    EmailClaim,
    EmailClaimed,
    EmailConfirmed,
    EmailLetterRequested,
    EmailReleased,
    EmailRequested,
    Name,
    PasswordChanged,
    PasswordReset,
    PasswordResetRequested,
    Person,
    ProfileRevised,
    Tongue,
    Username,
    UsernameClaim,
    UsernameClaimed,
)
from domain.tenancy import Members, RoleName

A_MINUTE = timedelta(minutes=1)


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
class RequestEmail(Command):
    """Ask for another address, which is taken up when its letter is answered."""

    person_id: str
    email: str

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        is_so = person.email == self.email and person.email_confirmed and not person.new_email
        asked = person.new_email == self.email and asked_lately(person, ctx)
        if not is_so and not asked:
            yield EmailRequested(person_id=self.person_id, email=self.email, asked_at=ctx.at)


@command(post="/me/email/letter", actor=Person)
class RequestEmailLetter(Command):
    """Ask for another letter by which one's address can be confirmed, once a minute at most."""

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        awaited = person.new_email or (person.email and not person.email_confirmed)
        if awaited and not asked_lately(person, ctx):
            yield EmailLetterRequested(person_id=ctx.actor, asked_at=ctx.at)


def asked_lately(person: Person, ctx: Context) -> bool:
    """Whether a letter was asked for so shortly before that it is still on its way."""
    return person.email_asked_at is not None and ctx.at < person.email_asked_at + A_MINUTE


@command(person_id=Person, new_email=EmailClaim)
class ConfirmEmail(Command):
    """Note that a person gets the letters to the last of `emails` addresses that they gave."""

    person_id: str
    emails: int

    def decide(self, person: Person, claim: EmailClaim, ctx: Context) -> Iterator[Event]:
        require(person.emails == self.emails and person.username, "link_invalid")
        new, former = person.new_email, person.email
        if not new:
            if not person.email_confirmed:
                yield EmailConfirmed(person_id=self.person_id)
            return
        require(claim.person_id in ("", self.person_id), "email_taken")
        if new == former:
            yield EmailChanged(person_id=self.person_id, email=new)
            return
        yield EmailClaimed(email=new, person_id=self.person_id)
        yield EmailChanged(person_id=self.person_id, email=new, former=former)
        if former:
            yield EmailReleased(email=former, person_id=self.person_id)


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


@command(person_id=Person)
class ReplacePassword(Command):
    """Note when a person's password was replaced."""

    person_id: str
    replaced_at: Annotated[datetime, Meta(tz=True)]
    forgotten: bool

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if self.replaced_at not in person.replaced:
            event = PasswordReset if self.forgotten else PasswordChanged
            yield event(person_id=self.person_id, replaced_at=self.replaced_at)


@command(person_id=Person)
class RequestPasswordReset(Command):
    """Ask for a letter by which the password can be replaced, after `requests` earlier ones."""

    person_id: str
    requests: int

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if person.reset_requests == self.requests:
            yield PasswordResetRequested(person_id=self.person_id)
