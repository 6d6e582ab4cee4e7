"""Letters to people: who gets them, in which language, and what they open."""

import logging

from api.onetime import OneTimeTokens
from commands.bus import Bus
from commands.kernel import Origin
from commands.people import SendLetter
from runtime.mail.letters import Letters
from runtime.mail.transport import LetterUndeliverable

PAGES = {"confirm_email": "confirm-email", "password_reset": "password-reset"}
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
        if not person.email:
            return
        try:
            await self._letters.send(
                to=person.email,
                name=person.name or person.username,
                language=person.language,
                letter=job.letter,
                link=await self._link(job, origin.tenant),
                key=origin.key,
            )
        except LetterUndeliverable:  # and trying again would not help
            logger.warning("%s can't be delivered to %s", job.letter, job.person_id, exc_info=True)

    async def _link(self, job: SendLetter, tenant: str) -> str:
        match job.letter:
            case "confirm_email" | "password_reset" as purpose:
                token = await self._tokens.make(purpose, job.person_id, tenant)
                return f"/{PAGES[purpose]}#token={token}"
            case _:
                return ""
