"""Other organisations of a running site, and who is signed in to them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import psycopg

from api.passwords import Passwords
from commands.bus import Bus, Envelope
from commands.kernel import SYSTEM, Command
from commands.log import LogReader, LogWriter
from commands.people import CreateAccount
from commands.tenancy import OpenTenant
from commands.vault import Vault
from domain.tenancy import Plan
from runtime.ids import new_id
from runtime.wiring import open_pool
from tests.processes import until
from tests.site import PASSWORD, Site, good

_NUMBERS = count(1)


class Organisation:
    """An organisation that was just opened, with one administrator: `head`."""

    def __init__(self, site: Site, plan: Plan = "pro") -> None:
        self.site = site
        self.id = f"school-{next(_NUMBERS)}"
        self.name = f"School {self.id}"
        self.do(OpenTenant(name=self.name, plan=plan))
        self.add("head", "administrator")
        self.head = self.sign_in("head")

    def do(self, *commands: Command, by: str = SYSTEM, at: datetime | None = None) -> list[str]:
        """Issue commands in this organisation, at a moment; the ids that they made."""
        return asyncio.run(self._do(commands, by, at or datetime.now(UTC)))

    async def _do(self, commands: Sequence[Command], by: str, at: datetime) -> list[str]:
        settings = self.site.settings
        writer = LogWriter(settings.dsn)
        try:
            async with open_pool(settings) as pool:
                vault = Vault(settings.need("master_key"), pool)
                await vault.start()
                bus = Bus(writer, LogReader(pool, vault), vault, lambda: at, new_id)
                envelope = Envelope(actor=by, tenant=self.id)
                return [(await bus.handle(one, envelope)).id for one in commands]
        finally:
            writer.close()

    def add(self, username: str, *roles: str) -> str:
        """A new account's id."""
        (person_id,) = self.do(CreateAccount(username=username, roles=roles))
        asyncio.run(self._keep(person_id))
        return person_id

    async def _keep(self, person_id: str) -> None:
        async with open_pool(self.site.settings) as pool:
            passwords = Passwords(pool)
            await passwords.keep(person_id, PASSWORD)
            passwords.close()

    def client(self, **headers: str) -> httpx.Client:
        """Somebody who asks this organisation."""
        return self.site.another({"X-Tenant": self.id, **headers})

    def log_in(self, username: str, password: str = PASSWORD, **how: Any) -> httpx.Response:
        said = {"username": username, "password": password, **how}
        return self.client().post("/auth/login", json=said)

    def sign_in(self, username: str) -> httpx.Client:
        """A client of somebody who is signed in here."""
        return self.client(**bearer(good(self.log_in(username)).json()))

    def invite(self, email: str, *roles: str, **said: Any) -> str:
        """An invitation's id."""
        body = {"email": email, "roles": roles or ("reader",), **said}
        return good(self.head.post("/admin/invitations", json=body)).json()["id"]

    def invited(self, email: str, *roles: str, **said: Any) -> str:
        """What the letter of a new invitation opens."""
        self.invite(email, *roles, **said)
        return self.site.letter(email.lower(), "invitation")

    def accept(self, token: str, username: str, **said: Any) -> httpx.Response:
        """Come in as somebody new."""
        body = {"token": token, "username": username, "password": PASSWORD, **said}
        return self.client().post("/auth/invitations/accept", json=body)


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


def letters_to(site: Site, email: str) -> list[str]:
    """The texts of all letters to an address."""
    found: list[str] = []
    for one in site.outbox():
        with suppress(KeyError):
            part = one.get_body(("plain",))
            if email in str(one["To"]) and part is not None:
                found.append(part.get_content())
    return found


def await_lock(site: Site, kind: str) -> None:
    """Wait until somebody waits for a lock of a kind that somebody else holds."""

    def waits() -> bool:
        with psycopg.connect(site.settings.dsn) as connection:
            cursor = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = %s", (kind,)
            )
            (number,) = cursor.fetchone() or (0,)
        return number > 0

    until(waits, 20)
