"""What people see of their organisation: its name, logo, colours, and what its roles grant."""

from typing import Any

from msgspec import Struct, json
from psycopg import sql

from domain.kernel import Recorded
from domain.tenancy import (
    ADMINISTRATOR,
    MAIN,
    ROLES,
    Plan,
    Registration,
    Tenant,
)
from projections.kernel import API, Asked, Query, ReadModel, Row, Rows, query


class Organisation(Struct, frozen=True, kw_only=True):
    """An organisation as anybody sees it; `registration` is null where the site's rule holds.

    `logo` is an address that shows this logo for ever, null where there is none.
    """

    id: str
    name: str
    logo: str | None
    primary_colour: str
    accent_colour: str
    registration: Registration | None


class RoleGrant(Struct, frozen=True, kw_only=True):
    """A role, and the permissions that it grants in this organisation."""

    name: str
    permissions: list[str]
    built_in: bool
    changed: bool


class RoleList(Struct, frozen=True):
    """The roles of an organisation, by name."""

    count: int
    next: None
    previous: None
    results: list[RoleGrant]


class TenantRow(Row, frozen=True, kw_only=True):
    table = "tenants"
    category = "tenant"
    columns = {"plan": "text NOT NULL", "closed": "boolean NOT NULL", "item": "bytea NOT NULL"}

    organisation: Tenant = Tenant()

    def values(self) -> tuple[Any, ...]:
        plan: Plan = self.organisation.plan
        return plan, self.organisation.closed, json.encode(_seen(self.id, self.organisation))


class Tenancy(ReadModel):
    """Organisations, each as its own events say."""

    name = "tenancy"
    version = 2
    rows = (TenantRow,)
    folds = Tenant.folds

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        known = rows.get(TenantRow, recorded.tenant) or TenantRow(id=recorded.tenant)
        rows.put(TenantRow(id=known.id, organisation=known.organisation.evolve(recorded.event)))


_TENANT = sql.SQL("SELECT {} FROM {}.tenants WHERE tenant = %s AND id = %s")


def _seen(tenant_id: str, tenant: Tenant) -> Organisation:
    return Organisation(
        id=tenant_id,
        name=tenant.name,
        logo=f"{API}/tenant/logo?version={tenant.logo}" if tenant.logo else None,
        primary_colour=tenant.primary_colour,
        accent_colour=tenant.accent_colour,
        registration=tenant.registration,
    )


async def _column(asked: Asked, column: str) -> bytes | None:
    statement = _TENANT.format(sql.Identifier(column), sql.Identifier(Tenancy.schema()))
    cursor = await asked.connection.execute(statement, (asked.tenant, asked.tenant), binary=True)
    row = await cursor.fetchone()
    return row[0] if row else None


@query(get="/tenant", model=Tenancy, returns=Organisation)
class GetTenant(Query):
    """Get the organisation that the address belongs to: its name, logo and colours."""

    async def answer(self, asked: Asked) -> bytes:
        return await _column(asked, "item") or json.encode(_seen(MAIN, Tenant()))


@query(get="/admin/roles", model=Tenancy, needs="people.administer", returns=RoleList)
class ListRoles(Query):
    """List the roles of one's organisation, and what each of them grants."""

    async def answer(self, asked: Asked) -> bytes:
        state = await _column(asked, "state")
        tenant = json.decode(state, type=TenantRow).organisation if state else Tenant()
        names = sorted(ROLES.keys() | tenant.roles.keys(), key=lambda n: (n != ADMINISTRATOR, n))
        roles = [
            RoleGrant(
                name=name,
                permissions=sorted(tenant.granted(name)),
                built_in=name in ROLES,
                changed=name in tenant.roles,
            )
            for name in names
        ]
        return json.encode(RoleList(len(roles), None, None, roles))
