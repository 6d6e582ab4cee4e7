"""What accounts are named and reached by."""

from typing import Annotated, Literal

from msgspec import Meta

from domain.personal import Personal

Username = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?$(?!\n)",
        max_length=32,
        description="Lower-case letters, digits, `.`, `_` and `-`",
    ),
]


Email = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+$(?!\n)",
        max_length=200,
    ),
]


Name = Annotated[str, Meta(max_length=120, pattern=r"^[^\r\n]*$(?![\r\n])")]


Tongue = Literal["en", "ky", "ar", "so"]
"""A language in which the site speaks."""


AboutPerson = Annotated[str, Personal("person_id")]


def same_address(email: str) -> str:
    """The one way in which an address is written, however people write it."""
    return email.lower()


def identity_at(issuer: str, subject: str) -> str:
    """What an account at a provider is called among those of all providers."""
    return f"{issuer}#{subject}"
