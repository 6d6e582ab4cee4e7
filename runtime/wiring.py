"""Puts the parts of a process together from its settings."""

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from api.answers import AnswerCache
from api.apitokens import ApiTokens
from api.attempts import Attempts
from api.browsers import BrowserCookies
from api.limits import RateLimits
from api.onetime import OneTimeTokens
from api.openid import OpenIdProvider
from api.passwords import Passwords
from api.positions import Positions
from api.revocations import Revocations
from api.secondfactors import SecondFactors
from api.security import SecurityLog
from api.sessions import Lifetimes, Sessions
from api.shared import SharedAnswers
from api.site import Site
from api.tenancy import Tenants
from api.tokens import Tokens
from commands.bus import Bus
from commands.connections import TenantPool
from commands.log import LogReader, LogWriter
from commands.vault import Vault
from ingest.blobs import BlobStore, DirectoryStore
from ingest.images import DecoderPool
from ingest.pictures import Pictures
from ingest.references import BlobReferences
from ingest.s3 import S3Store
from projections.kernel import API
from runtime.ids import new_id
from runtime.registry import MODELS
from runtime.settings import Settings

POOL_SIZE = 10
POOL_WAIT_SECONDS = 5.0

PICTURES_AT_ONCE = 2
"""How many pictures an api process stores at the same time; it draws one after the other."""
DRAWING_SECONDS = 10


def clock() -> datetime:
    return datetime.now(UTC)


def open_store(settings: Settings) -> BlobStore:
    """The blob store: S3 where a bucket is set, otherwise a directory."""
    if settings.s3_bucket:
        return S3Store(
            bucket=settings.s3_bucket,
            endpoint=settings.need("s3_endpoint"),
            region=settings.s3_region,
            access_key=settings.need("s3_access_key"),
            secret_key=settings.need("s3_secret_key"),
        )
    return DirectoryStore(Path(settings.need("blob_dir")))


def open_google(settings: Settings) -> OpenIdProvider | None:
    """Google as it knows this site; None where it does not."""
    if not settings.google_client_id:
        return None
    return OpenIdProvider(
        issuer=settings.google_issuer,
        client_id=settings.google_client_id,
        client_secret=settings.need("google_client_secret"),
        redirect_uri=f"{settings.need('public_url').rstrip('/')}{API}/auth/google/callback",
        attempts=Attempts(settings.need("secret")),
        clock=clock,
    )


def lifetimes_of(settings: Settings) -> Lifetimes:
    """For how long sessions last."""
    return Lifetimes(
        idle=settings.session_idle_seconds,
        absolute=settings.session_seconds,
        access=settings.access_seconds,
    )


@contextlib.asynccontextmanager
async def open_pool(settings: Settings) -> AsyncGenerator[TenantPool]:
    """Connections for reading, opened as they are needed."""
    pool = TenantPool(
        settings.need("dsn"),
        [model.schema() for model in MODELS.values()],
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_WAIT_SECONDS,
        open=False,
    )
    async with pool:
        yield pool


@contextlib.asynccontextmanager
async def open_bus(settings: Settings, pool: TenantPool) -> AsyncGenerator[Bus]:
    """The bus with the one writer of this process."""
    vault = Vault(settings.need("master_key"), pool)
    await vault.start()
    writer = LogWriter(settings.need("dsn"))
    try:
        yield Bus(writer, LogReader(pool, vault), vault, clock, new_id)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def open_pictures(settings: Settings, bus: Bus, store: BlobStore) -> AsyncGenerator[Pictures]:
    """What takes pictures in, with a decoder process of its own."""
    pool = ConnectionPool[Connection[TupleRow]](
        settings.need("dsn"),
        min_size=0,
        max_size=PICTURES_AT_ONCE,
        timeout=POOL_WAIT_SECONDS,
        open=False,
    )
    with pool, DecoderPool(1, DRAWING_SECONDS) as decoders:
        yield Pictures(bus, BlobReferences(pool, store), decoders, settings.scratch())


@contextlib.asynccontextmanager
async def open_site(settings: Settings) -> AsyncGenerator[Site]:
    """Everything the HTTP layer works with."""
    store = open_store(settings)
    async with (
        open_pool(settings) as pool,
        open_bus(settings, pool) as bus,
        open_pictures(settings, bus, store) as pictures,
    ):
        positions = Positions(settings.need("dsn"))
        passwords = Passwords(pool)
        shared = SharedAnswers(settings.redis_url) if settings.redis_url else None
        security = SecurityLog(pool, bus.vault, clock)
        revocations = Revocations(settings.need("dsn"), settings.access_seconds)
        given = settings.limits()
        limits = RateLimits(given, settings.redis_url) if given else None
        google = open_google(settings)
        positions.start()
        revocations.start()
        security.start()
        try:
            yield Site(
                bus=bus,
                pool=pool,
                tenants=Tenants(pool, positions),
                domain=settings.domain,
                positions=positions,
                answers=AnswerCache(),
                shared=shared,
                limits=limits,
                tokens=Tokens(settings.need("secret")),
                sessions=Sessions(pool, revocations, lifetimes_of(settings)),
                cookies=BrowserCookies(secure=not settings.is_plain),
                one_time=OneTimeTokens(pool),
                google=google,
                api_tokens=ApiTokens(pool, revocations),
                second_factors=SecondFactors(pool, settings.need("master_key"), new_id),
                name=urlsplit(settings.public_url).netloc or "Imprimatur",
                registration=settings.registration,
                passwords=passwords,
                blobs=store,
                pictures=pictures,
                security=security,
                scratch=settings.scratch(),
                clock=clock,
                new_id=new_id,
            )
        finally:
            await positions.stop()
            await revocations.stop()
            await security.stop()
            passwords.close()
            if shared is not None:
                await shared.close()
            if limits is not None:
                await limits.close()
            if google is not None:
                await google.close()
