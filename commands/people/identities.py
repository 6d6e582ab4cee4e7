"""Accounts at other providers by which people sign in: linked, unlinked, and first met."""

from collections.abc import Iterator

from commands.kernel import Command, Context, NewId, check_standing, command
from commands.tenancy import joined
from domain.kernel import Event, require
from domain.people import (
    AccountCreated,
    EmailAdded,
    EmailClaim,
    EmailClaimed,
    IdentityClaim,
    IdentityClaimed,
    IdentityLinked,
    IdentityReleased,
    IdentityUnlinked,
    Name,
    Person,
    ProfileRevised,
    Tongue,
    Username,
    UsernameClaim,
    UsernameClaimed,
    identity_at,
)
from domain.tenancy import Members


@command(identity=IdentityClaim, person_id=Person)
class LinkIdentity(Command):
    """Let a person sign in by an account that the provider says has their confirmed address."""

    identity_id: NewId = ""
    person_id: str
    issuer: str
    subject: str
    email: str

    @property
    def identity(self) -> str:
        return identity_at(self.issuer, self.subject)

    def decide(self, claim: IdentityClaim, person: Person, ctx: Context) -> Iterator[Event]:
        if claim.person_id == self.person_id:
            return
        require(not claim.person_id, "identity_taken")
        check_standing(person, ctx.at)
        confirmed = person.email == self.email and person.email_confirmed
        require(confirmed, "email_unconfirmed")  # whoever registered it may be somebody else
        known = any(one.issuer == self.issuer for one in person.identities)
        require(not known, "identity_differs")  # the address may have been given to somebody else
        yield IdentityClaimed(identity=self.identity, person_id=self.person_id)
        yield IdentityLinked(
            person_id=self.person_id,
            identity_id=self.identity_id,
            issuer=self.issuer,
            subject=self.subject,
            email=self.email,
        )


@command(
    username=UsernameClaim,
    email=EmailClaim,
    identity=IdentityClaim,
    person_id=Person,
    tenant=Members,
)
class RegisterByIdentity(Command):
    """Make an account without a password for whom a provider vouches."""

    person_id: NewId = ""
    identity_id: str
    issuer: str
    subject: str
    username: Username
    email: str
    name: Name = ""
    language: Tongue = "en"

    @property
    def identity(self) -> str:
        return identity_at(self.issuer, self.subject)

    def decide(
        self,
        name: UsernameClaim,
        address: EmailClaim,
        claim: IdentityClaim,
        person: Person,
        members: Members,
        ctx: Context,
    ) -> Iterator[Event]:
        require(not claim.person_id, "identity_taken")
        require(not address.person_id, "email_taken")
        require(not name.person_id, "username_taken")
        whose = self.person_id
        yield UsernameClaimed(username=self.username, person_id=whose)
        yield EmailClaimed(email=self.email, person_id=whose)
        yield AccountCreated(
            person_id=whose, username=self.username, roles=("reader",), with_password=False
        )
        yield ProfileRevised(person_id=whose, name=self.name, language=self.language)
        yield EmailAdded(person_id=whose, email=self.email, confirmed=True)
        yield IdentityClaimed(identity=self.identity, person_id=whose)
        yield IdentityLinked(
            person_id=whose,
            identity_id=self.identity_id,
            issuer=self.issuer,
            subject=self.subject,
            email=self.email,
        )
        yield from joined(whose, ("reader",), members, ctx)


@command(identity=IdentityClaim, person_id=Person)
class UnlinkIdentity(Command):
    """Sign a person in by an account at another provider no more."""

    person_id: str
    identity_id: str
    identity: str

    def decide(self, claim: IdentityClaim, person: Person, ctx: Context) -> Iterator[Event]:
        known = person.identity(self.identity_id)
        if known is None or identity_at(known.issuer, known.subject) != self.identity:
            return
        require(person.has_password or len(person.identities) > 1, "last_sign_in")
        yield IdentityUnlinked(person_id=self.person_id, identity_id=self.identity_id)
        yield IdentityReleased(identity=self.identity, person_id=self.person_id)
