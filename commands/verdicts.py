"""The way of verdicts from the thread that writes the log to the loop that waits for them."""

import asyncio
from collections import deque
from concurrent.futures import Future

from commands.log import Verdict


class Verdicts:
    """Brings verdicts from the writer's thread to the event loop: one wake-up for a whole batch."""

    def __init__(self) -> None:
        self._ready: deque[tuple[asyncio.Future[Verdict], Future[Verdict]]] = deque()

    async def of(self, written: "Future[Verdict]") -> Verdict:
        """The verdict, once it is there; an append that nobody waits for any more is not begun."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Verdict] = loop.create_future()

        def settled(future: "Future[Verdict]") -> None:
            self._ready.append((waiting, future))
            if len(self._ready) == 1:  # whoever is first wakes the loop for those behind it
                loop.call_soon_threadsafe(self._hand_over)

        written.add_done_callback(settled)
        try:
            return await waiting
        except asyncio.CancelledError:
            written.cancel()
            raise

    def _hand_over(self) -> None:
        while self._ready:
            waiting, written = self._ready.popleft()
            if waiting.done():
                continue
            if error := written.exception():
                waiting.set_exception(error)
            else:
                waiting.set_result(written.result())
