"""What follows for accounts by itself: bans end at their moment, and sessions with an account."""

from api.sessions import Sessions
from commands.bus import Bus, Envelope
from commands.kernel import SYSTEM, Command, Origin
from commands.people.administration import EndSessions
from commands.people.bans import EndBan, LiftBan
from commands.people.sessions import EndSession


class Standing:
    """Carries out LiftBan and EndSessions."""

    def __init__(self, bus: Bus, sessions: Sessions) -> None:
        self._bus = bus
        self._sessions = sessions

    async def lift(self, job: LiftBan, origin: Origin) -> None:
        """Lift a ban, unless it was lifted or changed before its end."""
        await self._report(EndBan(person_id=job.person_id, end=job.end), origin, "lift")

    async def end_sessions(self, job: EndSessions, origin: Origin) -> None:
        """End a person's sessions, which every api process is told of, and note each in the log."""
        for one in await self._sessions.end_all(job.person_id, origin.tenant):
            ending = EndSession(session_id=one.id, person_id=job.person_id, reason=job.reason)
            await self._report(ending, origin, one.id)

    async def _report(self, command: Command, origin: Origin, what: str) -> None:
        envelope = Envelope(
            actor=SYSTEM,
            tenant=origin.tenant,
            command_id=f"job:{origin.key}:{what}",
            correlation_id=origin.correlation_id,
            causation_id=str(origin.position),
        )
        await self._bus.handle(command, envelope)
