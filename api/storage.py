"""How much an organisation may store: asked before anything of an upload is taken."""

from api.site import Site
from domain.kernel import require
from ingest.storage import stored_bytes
from projections.moderation import waiting_bytes


async def require_room(site: Site, tenant_id: str, coming: int) -> None:
    """Refuse so many bytes more, or at least one, where the plan of the organisation is full.

    What comes at the same time is not counted, nor what an archive's pages will take beside it, so
    a plan may be exceeded by what was taken before it was full.
    """
    tenant = await site.tenants.find(tenant_id)
    limit = tenant.limits.storage_bytes if tenant is not None else None
    if limit is None:
        return
    async with site.pool.of(tenant_id) as connection:
        stored = await stored_bytes(connection, tenant_id)
        waiting = await waiting_bytes(connection, tenant_id)
    room = limit - stored - waiting
    require(room >= max(coming, 1), "plan_storage_reached", limit=limit)
