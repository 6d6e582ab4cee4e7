"""What the HTTP layer works with; the runtime puts it together."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from litestar.connection import ASGIConnection
from msgspec import Struct

from api.answers import AnswerCache
from api.apitokens import ApiTokens
from api.browsers import BrowserCookies
from api.limits import RateLimits
from api.onetime import OneTimeTokens
from api.openid import OpenIdProvider
from api.passwords import Passwords
from api.positions import Positions
from api.secondfactors import SecondFactors
from api.security import SecurityLog
from api.sessions import Sessions
from api.shared import SharedAnswers
from api.tenancy import Tenants
from api.tokens import Tokens
from commands.bus import Bus
from commands.connections import TenantPool
from domain.tenancy import Registration
from ingest.blobs import BlobStore
from ingest.pictures import Pictures


class Site(Struct, frozen=True, kw_only=True):
    """The parts of a running site that requests need."""

    bus: Bus
    pool: TenantPool
    positions: Positions
    answers: AnswerCache
    shared: SharedAnswers | None = None
    limits: RateLimits | None = None
    tokens: Tokens
    sessions: Sessions
    cookies: BrowserCookies
    one_time: OneTimeTokens
    tenants: Tenants
    google: OpenIdProvider | None = None
    api_tokens: ApiTokens
    second_factors: SecondFactors
    name: str = "Imprimatur"
    """What authenticator apps call the site."""
    domain: str = ""
    registration: Registration = "closed"
    passwords: Passwords
    security: SecurityLog
    blobs: BlobStore
    pictures: Pictures
    scratch: Path
    clock: Callable[[], datetime]
    new_id: Callable[[], str]


def site_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Site:
    """The site that answers this request."""
    return connection.app.state["site"]
