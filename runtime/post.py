"""Letters to people: who gets them, in which language, and what they open."""

import logging
from collections.abc import Mapping

from babel.dates import format_datetime, get_timezone

from api.onetime import OneTimeTokens, Purpose
from commands.bus import Bus
from commands.kernel import Origin
from commands.memberships import SendInvitation
from commands.people.letters import SendLetter
from domain.appeals import Appeal
from domain.memberships import Invitation
from domain.people import EmailChanged, Person
from domain.tenancy import MAIN, Tenant
from runtime.mail.letters import Letters
from runtime.mail.transport import LetterUndeliverable

PAGES: Mapping[str, tuple[Purpose, str]] = {
    "confirm_email": ("confirm_email", "confirm-email"),
    "invitation": ("invitation", "accept-invitation"),
    "password_reset": ("password_reset", "password-reset"),
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
        about = await self._about(job, person, origin.tenant)
        address = await self._address(job, person, origin)
        if not address or about is None:
            return
        try:
            await self._letters.send(
                to=address,
                name=person.name or person.username,
                language=person.language,
                letter=job.letter,
                link=await self._link(job, person, origin.tenant),
                about=about,
                key=origin.key,
            )
        except LetterUndeliverable:  # and trying again would not help
            logger.warning("%s can't be delivered to %s", job.letter, job.person_id, exc_info=True)

    async def _about(
        self, job: SendLetter, person: Person, tenant: str
    ) -> Mapping[str, str] | None:
        """What the letter tells; None where it is not so any more."""
        if job.letter in ("banned", "banned_until"):
            return _ban(person)
        if job.letter in ("appeal_accepted", "appeal_rejected"):
            appeal = await self._bus.state(Appeal, job.about, tenant)
            return {"answer": appeal.answer} if appeal else None
        return {}

    async def invite(self, job: SendInvitation, origin: Origin) -> None:
        """Send an invitation, unless it was accepted or withdrawn meanwhile."""
        invitation = await self._bus.state(Invitation, job.invitation_id, origin.tenant)
        if invitation is None or invitation.status != "pending":
            return
        tenant = await self._bus.state(Tenant, origin.tenant, origin.tenant) or Tenant()
        try:
            await self._letters.send(
                to=invitation.email,
                name="",
                language=invitation.language,
                letter="invitation",
                link=await self._opening("invitation", job.invitation_id, origin.tenant),
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
        if job.letter not in PAGES:
            return ""
        number = person.emails if job.letter == "confirm_email" else 0
        return await self._opening(job.letter, job.person_id, tenant, number)

    async def _opening(self, letter: str, whose: str, tenant: str, number: int = 0) -> str:
        """The page of the site for a letter, with a token that was made for it."""
        purpose, page = PAGES[letter]
        token = await self._tokens.make(purpose, whose, tenant, number)
        return f"/{page}{'' if tenant == MAIN else f'?tenant={tenant}'}#token={token}"


def _ban(person: Person) -> Mapping[str, str] | None:
    """A ban in the words of a letter: its end as the person's clock shows it."""
    if person.ban is None:
        return None
    zone = get_timezone(person.time_zone)
    until = person.ban.until
    end = format_datetime(until, "long", zone, person.language) if until else ""
    return {"reason": person.ban.reason, "until": end}
