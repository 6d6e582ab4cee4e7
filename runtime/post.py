"""Letters to people: who gets them, in which language, and what they open."""

import logging
from collections.abc import Mapping

from babel.dates import format_datetime, get_timezone

from api.onetime import OneTimeTokens, Purpose
from commands.bus import Bus
from commands.kernel import Origin
from commands.people import Letter, SendLetter
from domain.appeals import Appeal
from domain.people import Person
from runtime.mail.letters import Letters
from runtime.mail.transport import LetterUndeliverable

PAGES: Mapping[Letter, tuple[Purpose, str]] = {
    "confirm_email": ("confirm_email", "confirm-email"),
    "password_reset": ("password_reset", "password-reset"),
}
"""The page of the site that takes up the token of a letter, which no server's log gets to see."""

logger = logging.getLogger(__name__)


class Post:
    """Carries out SendLetter."""

    def __init__(self, bus: Bus, tokens: OneTimeTokens, letters: Letters) -> None:
        self._bus = bus
        self._tokens = tokens
        self._letters = letters

    async def send(self, job: SendLetter, origin: Origin) -> None:
        """Send a letter to the person's address; nobody has to have one."""
        person = await self._bus.person(job.person_id, origin.tenant)
        about = await self._about(job, person, origin.tenant)
        if not person.email or about is None:
            return
        try:
            await self._letters.send(
                to=person.email,
                name=person.name or person.username,
                language=person.language,
                letter=job.letter,
                link=await self._link(job, origin.tenant),
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

    async def _link(self, job: SendLetter, tenant: str) -> str:
        if job.letter not in PAGES:
            return ""
        purpose, page = PAGES[job.letter]
        token = await self._tokens.make(purpose, job.person_id, tenant)
        return f"/{page}#token={token}"


def _ban(person: Person) -> Mapping[str, str] | None:
    """A ban in the words of a letter: its end as the person's clock shows it."""
    if person.ban is None:
        return None
    zone = get_timezone(person.time_zone)
    until = person.ban.until
    end = format_datetime(until, "long", zone, person.language) if until else ""
    return {"reason": person.ban.reason, "until": end}
