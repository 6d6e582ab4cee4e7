"""Accounts made at the machine, by whoever operates it."""

from api.passwords import Passwords
from commands.bus import NOTHING_APPENDED, Envelope
from commands.kernel import SYSTEM
from commands.people import CreateAccount
from domain.tenancy import MAIN
from runtime.ids import new_id
from runtime.settings import Settings
from runtime.tenants import need_tenant
from runtime.wiring import open_bus, open_pool


async def add_account(
    settings: Settings,
    username: str,
    password: str,
    roles: tuple[str, ...],
    tenant: str = MAIN,
) -> str:
    """Make an account and return its id.

    Raises Rejected when the name is taken, NotFound where there is no such organisation.
    """
    command = CreateAccount(person_id=new_id(), username=username, roles=roles)
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        await need_tenant(bus, tenant)
        passwords = Passwords(pool)
        try:
            await passwords.keep(command.person_id, password, username)
            try:
                await bus.handle(command, Envelope(actor=SYSTEM, tenant=tenant))
            except NOTHING_APPENDED:
                await passwords.forget(command.person_id)
                raise
        finally:
            passwords.close()
    return command.person_id
