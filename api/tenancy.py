"""Which organisations there are, known without asking for every request."""

from msgspec import Struct

from api.positions import Positions
from commands.bus import Bus
from domain.tenancy import MAIN, Tenant
from projections.tenancy import Tenancy


class _Known(Struct, frozen=True):
    changed: int
    tenant: Tenant | None


class Tenants:
    """Organisations as they stand, read anew when any of them changed."""

    def __init__(self, bus: Bus, positions: Positions) -> None:
        self._bus = bus
        self._positions = positions
        self._known: dict[str, _Known] = {}

    async def find(self, tenant_id: str) -> Tenant | None:
        """An organisation that is open; None where there is none of this id."""
        checkpoint = self._positions.current(Tenancy)
        known = self._known.get(tenant_id)
        if checkpoint is not None and known is not None and known.changed == checkpoint.changed:
            return known.tenant
        tenant = await self._bus.state(Tenant, tenant_id, tenant_id)
        if tenant is None and tenant_id == MAIN:
            tenant = Tenant()
        if tenant is not None and tenant.closed:
            tenant = None
        if checkpoint is not None and tenant is not None:
            self._known[tenant_id] = _Known(checkpoint.changed, tenant)
        return tenant
