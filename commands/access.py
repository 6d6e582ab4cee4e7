"""Personal API tokens: making and revoking what programs act by."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta

from commands.kernel import Command, Context, check_standing, command, permissions_of
from domain.access import ApiToken, Scope, TokenCreated, TokenName, TokenRevoked
from domain.kernel import Event, require
from domain.people import Person

LONGEST = timedelta(days=366)


@command(api_token_id=ApiToken, person_id=Person)
class CreateToken(Command):
    """Let a program act for a person, by no more than what that person may do."""

    api_token_id: str
    person_id: str
    name: TokenName
    scopes: Annotated[tuple[Scope, ...], Meta(max_length=50)]
    expires_at: Annotated[datetime, Meta(tz=True)]

    def decide(self, token: ApiToken, person: Person, ctx: Context) -> Iterator[Event]:
        if token.person_id:
            return
        check_standing(person, ctx.at)
        require(not token.revoked, "not_signed_in")
        require(self.expires_at > ctx.at, "expiry_in_the_past")
        require(self.expires_at <= ctx.at + LONGEST, "expiry_too_far")
        missing = sorted(set(self.scopes) - permissions_of(person, ctx.tenant))
        require(not missing, "scope_not_held", scopes=missing)
        yield TokenCreated(
            api_token_id=self.api_token_id,
            person_id=self.person_id,
            name=self.name,
            scopes=tuple(sorted(set(self.scopes))),
            expires_at=self.expires_at,
        )


@command(api_token_id=ApiToken)
class RevokeToken(Command):
    """Let a program act for its person no more."""

    api_token_id: str
    person_id: str

    def decide(self, token: ApiToken, ctx: Context) -> Iterator[Event]:
        if not token.revoked:
            yield TokenRevoked(api_token_id=self.api_token_id, person_id=self.person_id)
