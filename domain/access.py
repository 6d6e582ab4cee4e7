"""Personal API tokens: what a program may do in the name of a person, and until when."""

from datetime import datetime
from typing import Annotated, Self

from msgspec import Meta
from msgspec.structs import replace

from domain.kernel import Event, State
from domain.personal import Personal

TokenName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
Scope = Annotated[str, Meta(max_length=60, pattern=r"^[a-z_]+\.[a-z_]+$(?![\r\n])")]
"""A permission that a token may make use of, as long as its person has it."""


class TokenCreated(Event):
    """Somebody let a program act for them; what proves it is kept outside the log."""

    api_token_id: str
    person_id: str
    name: Annotated[str, Personal("person_id")]
    scopes: tuple[str, ...]
    expires_at: datetime


class TokenRevoked(Event):
    api_token_id: str
    person_id: str


class ApiToken(State):
    """What a person was given for a program of theirs."""

    folds = (TokenCreated, TokenRevoked)
    claim = True  # it may be revoked before it is in the log that it was made

    person_id: str = ""
    name: str = ""
    revoked: bool = False

    def evolve(self, event: Event) -> Self:
        match event:
            case TokenCreated():
                return replace(self, person_id=event.person_id, name=event.name)
            case TokenRevoked():
                return replace(self, revoked=True)
            case _:
                return self
