"""Signing in at an OpenID Connect provider: what it is asked, and which answers are believed."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, cast

import httpx
from authlib.oauth2.rfc6749.parameters import (
    prepare_grant_uri,  # pyright: ignore[reportUnknownVariableType]
)
from authlib.oauth2.rfc7636 import (
    create_s256_code_challenge,  # pyright: ignore[reportUnknownVariableType]
)
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import OpenIDProviderMetadata
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from msgspec import Meta, Struct, ValidationError, convert

from api.attempts import Attempt, Attempts
from domain.people import Email, same_address

ALGORITHMS = ["RS256"]
"""What an ID token may be signed by: every provider knows it, and only its key can make it."""

SCOPE = "openid email profile"

LEEWAY_SECONDS = 60
"""How far the provider's clock may be off."""

KEPT_SECONDS = 3_600
"""For how long a provider's description and keys are not asked for again."""

ANSWER_SECONDS = 5.0
"""How long the provider may take for one answer."""

Clock = Callable[[], datetime]

_address = cast("Callable[..., str]", prepare_grant_uri)
_challenge = cast("Callable[[str], str]", create_s256_code_challenge)


class ProviderUnavailable(Exception):
    """The provider does not answer, or not as it has to."""


class CodeRefused(Exception):
    """The provider does not take the code: it was used, has expired, or is somebody else's."""


class IdTokenInvalid(Exception):
    """What the provider says of a person can't be believed."""


class Vouched(Struct, frozen=True):
    """What a provider says of a person; whom it is about is in `sub` alone."""

    sub: Annotated[str, Meta(pattern=r"^[!-~]{1,120}$(?!\n)")]
    email: str = ""
    email_verified: bool = False
    name: str = ""

    @property
    def address(self) -> str | None:
        """The address that the provider has seen to be theirs."""
        if not self.email_verified:
            return None
        try:
            return same_address(convert(self.email, Email))
        except ValidationError:
            return None


class _Described(Struct, frozen=True):
    """Where a provider is asked what."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _Provider(Struct, frozen=True):
    """What a provider said of itself, and when."""

    at: float
    described: _Described
    keys: KeySet


class OpenIdProvider:
    """A provider at which this site is known as a client."""

    def __init__(
        self,
        *,
        issuer: str,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        attempts: Attempts,
        clock: Clock,
    ) -> None:
        self.issuer = issuer
        self.attempts = attempts
        self._client_id = client_id
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._auth = httpx.BasicAuth(client_id, client_secret)
        self._http = httpx.AsyncClient(timeout=ANSWER_SECONDS)
        self._known: _Provider | None = None
        self._failed_at = float("-inf")
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()

    async def address(self, attempt: Attempt) -> str:
        """Where somebody is sent to sign in. Raises ProviderUnavailable."""
        provider = await self._provider()
        return _address(
            provider.described.authorization_endpoint,
            client_id=self._client_id,
            response_type="code",
            redirect_uri=self._redirect_uri,
            scope=SCOPE,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=_challenge(attempt.verifier),
            code_challenge_method="S256",
        )

    async def vouched(self, code: str, attempt: Attempt) -> Vouched:
        """Whom a code was given for.

        Raises CodeRefused, IdTokenInvalid, ProviderUnavailable.
        """
        provider = await self._provider()
        answer = await self._asked(
            "POST",
            provider.described.token_endpoint,
            auth=self._auth,
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self._redirect_uri,
                "code_verifier": attempt.verifier,
            },
        )
        token = await self._verified(provider, str(answer.get("id_token", "")))
        self._check(token, str(answer.get("access_token", "")), attempt.nonce)
        try:
            return convert(token.claims, Vouched)
        except ValidationError as error:
            raise IdTokenInvalid(str(error)) from error

    async def _verified(self, provider: _Provider, id_token: str) -> jwt.Token:
        """The token, signed by a key of the provider's; keys are asked for anew where none fits."""
        try:
            return jwt.decode(id_token, provider.keys, ALGORITHMS)
        except (InvalidKeyIdError, BadSignatureError):
            provider = await self._provider(newer_than=provider)
        except JoseError as error:
            raise IdTokenInvalid(error.error) from error
        try:
            return jwt.decode(id_token, provider.keys, ALGORITHMS)
        except JoseError as error:
            raise IdTokenInvalid(error.error) from error

    def _check(self, token: jwt.Token, access_token: str, nonce: str) -> None:
        """Refuse a token of another provider, client, attempt, or time."""
        claims: Any = CodeIDToken(
            token.claims,
            token.header,
            {
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "value": self._client_id},
            },
            {"nonce": nonce, "client_id": self._client_id, "access_token": access_token},
        )
        try:
            claims.validate(now=int(self._clock().timestamp()), leeway=LEEWAY_SECONDS)
        except JoseError as error:
            raise IdTokenInvalid(str(error)) from error

    async def _provider(self, newer_than: _Provider | None = None) -> _Provider:
        """What the provider says of itself, asked for once, however many wait for it."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        async with self._asking:
            known = self._known
            if known is None or known is newer_than or begun - known.at > KEPT_SECONDS:
                if self._failed_at > begun:  # when it was asked for those who came before
                    raise ProviderUnavailable(f"{self.issuer} has just failed")
                try:
                    known = self._known = await self._ask(clock())
                except ProviderUnavailable:
                    self._failed_at = clock()
                    raise
            return known

    async def _ask(self, now: float) -> _Provider:
        said = await self._asked(
            "GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        )
        try:
            OpenIDProviderMetadata(said).validate()
            described = convert(said, _Described)
            if described.issuer != self.issuer:
                raise ProviderUnavailable(f"{self.issuer} says that it is {described.issuer}")
            keys: Any = await self._asked("GET", described.jwks_uri)
            return _Provider(now, described, KeySet.import_key_set(keys))
        except (ValueError, KeyError, TypeError, ValidationError, JoseError) as error:
            raise ProviderUnavailable(f"{self.issuer} can't be understood: {error}") from error

    async def _asked(self, method: str, url: str, **said: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._http.request(method, url, **said)
            body = answer.json()
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise ProviderUnavailable(f"{url}: {type(error).__name__}") from error
        if not isinstance(body, dict):
            raise ProviderUnavailable(f"{url}: no object")
        if answer.is_success:
            return body  # pyright: ignore[reportUnknownVariableType]
        if body.get("error") == "invalid_grant":  # pyright: ignore[reportUnknownMemberType]
            raise CodeRefused
        raise ProviderUnavailable(f"{url}: {answer.status_code}")
