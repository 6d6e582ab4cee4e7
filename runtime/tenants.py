"""Organisations, as whoever operates the site opens, lists, exports and closes them."""

import asyncio
import zipfile
from pathlib import Path
from typing import Any, LiteralString

from msgspec import Struct, json

from commands.bus import Bus, Envelope
from commands.connections import EVERY_TENANT, TenantPool
from commands.kernel import SYSTEM, Command, NotFound
from commands.tenancy import CloseTenant, OpenTenant
from domain.kernel import RECORDED_COLUMNS, Recorded, recorded
from domain.tenancy import MAIN, Plan, Tenant
from ingest.blobs import BlobStore
from ingest.keys import tenant_key
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool, open_store

BATCH = 1_000

_EVENTS: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events"
    " WHERE tenant = %s AND position > %s ORDER BY position LIMIT %s"
)

_OPENED: LiteralString = (
    "SELECT tenant FROM log.events WHERE type = 'tenancy.TenantOpened' ORDER BY tenant"
)


class ListedTenant(Struct, frozen=True):
    """An organisation as an operator sees it."""

    id: str
    name: str
    plan: Plan
    closed: bool


async def open_tenant(settings: Settings, tenant_id: str, name: str, plan: Plan) -> None:
    """Open an organisation; raises Rejected where there is, or was, one of this id."""
    await _issue(settings, tenant_id, OpenTenant(name=name, plan=plan))


async def close_tenant(settings: Settings, tenant_id: str, reason: str) -> None:
    """Close an organisation for good; raises Rejected where there is none."""
    await _issue(settings, tenant_id, CloseTenant(reason=reason))


async def _issue(settings: Settings, tenant_id: str, command: Command) -> None:
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        await bus.handle(command, Envelope(actor=SYSTEM, tenant=tenant_id))


async def list_tenants(settings: Settings) -> list[ListedTenant]:
    """Every organisation that there is or was, the site's own first."""
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        return [await _listed(bus, one) for one in await tenant_ids(pool)]


async def tenant_ids(pool: TenantPool) -> list[str]:
    """Every organisation that there is or was, the site's own first."""
    async with pool.of(EVERY_TENANT) as connection:
        cursor = await connection.execute(_OPENED)
        opened = [tenant_id for (tenant_id,) in await cursor.fetchall()]
    return list(dict.fromkeys([MAIN, *opened]))


async def _listed(bus: Bus, tenant_id: str) -> ListedTenant:
    tenant = await bus.state(Tenant, tenant_id, tenant_id) or Tenant()
    return ListedTenant(tenant_id, tenant.name, tenant.plan, tenant.closed)


async def need_tenant(bus: Bus, tenant_id: str) -> None:
    """Refuse an organisation that there is not, or not any more."""
    tenant = await bus.state(Tenant, tenant_id, tenant_id)
    if tenant_id != MAIN and (tenant is None or tenant.closed):
        raise NotFound("tenant")


async def export_tenant(settings: Settings, tenant_id: str, target: Path) -> int:
    """Write all that an organisation has into a ZIP; how many events that was.

    `events.jsonl` has every event with its personal texts readable, `blobs/` every file. The
    target is there whole or not at all.
    """
    unfinished = target.with_name(f"{target.name}.part")
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        if tenant_id != MAIN and await bus.state(Tenant, tenant_id, tenant_id) is None:
            raise NotFound("tenant")
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            count = await _write_events(pool, bus, tenant_id, archive)
            await asyncio.to_thread(_write_blobs, open_store(settings), tenant_id, archive)
    unfinished.replace(target)
    return count


async def _write_events(
    pool: TenantPool, bus: Bus, tenant_id: str, archive: zipfile.ZipFile
) -> int:
    count = position = 0
    with archive.open("events.jsonl", "w", force_zip64=True) as file:
        while events := await _events(pool, bus, tenant_id, position):
            file.writelines(json.encode(event) + b"\n" for event in map(_plain, events))
            count, position = count + len(events), events[-1].position
    return count


async def _events(pool: TenantPool, bus: Bus, tenant_id: str, after: int) -> list[Recorded]:
    async with pool.of(tenant_id) as connection:
        cursor = await connection.execute(_EVENTS, (tenant_id, after, BATCH))
        return await bus.opened([recorded(row) for row in await cursor.fetchall()])


def _plain(event: Recorded) -> dict[str, Any]:
    """An event with its fields under the names that the audit gives them."""
    named = {name: getattr(event, name) for name in event.__struct_fields__ if name != "event"}
    return named | {"data": event.event}


def _write_blobs(store: BlobStore, tenant_id: str, archive: zipfile.ZipFile) -> None:
    for key in store.keys(tenant_key(tenant_id, "")):
        entry = zipfile.ZipInfo(f"blobs/{key.partition('/')[2]}")
        with store.open(key) as reader, archive.open(entry, "w", force_zip64=True) as file:
            for chunk in reader:
                file.write(chunk)
