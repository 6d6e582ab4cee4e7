"""Letters to people: who gets them, in which language, and what they open."""

import logging

from api.onetime import OneTimeTokens
from commands.bus import Bus
from commands.kernel import Origin
from commands.memberships import SendInvitation
from commands.people import SendLetter
from domain.memberships import Invitation
from domain.people import EmailChanged, Person
from domain.tenancy import Tenant
from runtime.mail.letters import Letters
from runtime.mail.transport import LetterUndeliverable

PAGES = {
    "confirm_email": "confirm-email",
    "invitation": "accept-invitation",
    "password_reset": "password-reset",
}
"""The page of the site that takes up the token of a letter, which no server's log gets to see."""

logger = logging.getLogger(__name__)


class Post:
    """Carries out SendLetter and SendInvitation."""

    def __init__(self, bus: Bus, tokens: OneTimeTokens, letters: Letters) -> None:
        self._bus = bus
        self._tokens = tokens
        self._letters = letters

    async def send(self, job: SendLetter, origin: Origin) -> None:
        """Send a letter to the person's address; nobody has to have one."""
        person = await self._bus.person(job.person_id, origin.tenant)
        address = await self._address(job, person, origin)
        if not address:
            return
        try:
            await self._letters.send(
                to=address,
                name=person.name or person.username,
                language=person.language,
                letter=job.letter,
                link=await self._link(job, person, origin.tenant),
                key=origin.key,
            )
        except LetterUndeliverable:  # and trying again would not help
            logger.warning("%s can't be delivered to %s", job.letter, job.person_id, exc_info=True)

    async def invite(self, job: SendInvitation, origin: Origin) -> None:
        """Send an invitation, unless it was accepted or withdrawn meanwhile."""
        invitation = await self._bus.state(Invitation, job.invitation_id, origin.tenant)
        if invitation is None or invitation.status != "pending":
            return
        tenant = await self._bus.state(Tenant, origin.tenant, origin.tenant) or Tenant()
        token = await self._tokens.make("invitation", job.invitation_id, origin.tenant)
        try:
            await self._letters.send(
                to=invitation.email,
                name="",
                language=invitation.language,
                letter="invitation",
                link=f"/{PAGES['invitation']}#token={token}",
                organisation=tenant.name,
                message=invitation.message,
                key=origin.key,
            )
        except LetterUndeliverable:
            logger.warning("invitation %s can't be delivered", job.invitation_id, exc_info=True)

    async def _address(self, job: SendLetter, person: Person, origin: Origin) -> str:
        """Where a letter goes: one about an address goes there, others to that of the account."""
        if job.letter == "confirm_email":
            return person.new_email or ("" if person.email_confirmed else person.email)
        if job.letter == "email_changed":
            event = await self._bus.event(origin.position, origin.tenant)
            return event.former if isinstance(event, EmailChanged) else ""
        return person.email

    async def _link(self, job: SendLetter, person: Person, tenant: str) -> str:
        if job.letter in ("email_changed", "password_changed"):
            return ""
        number = person.emails if job.letter == "confirm_email" else 0
        token = await self._tokens.make(job.letter, job.person_id, tenant, number)
        return f"/{PAGES[job.letter]}#token={token}"
