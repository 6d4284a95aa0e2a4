"""Waiting at start for what a service depends on, and saying so."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from jobber.errors import Terminal, Unavailable
from jobber.log import event, without_secrets

#: A dependency that comes up is noticed within this many seconds.
POLL = 0.2
#: Say again that it waits, every so many seconds.
REMIND = 10.0


async def wait_for(what: str, probe: Callable[[], Awaitable[object]], timeout: float) -> None:
    """Answer once `probe` does without raising; `what` names the thing in the log and must hold no secret.

    Raises Unavailable, with the last reason, after `timeout` seconds. A Terminal error of the probe is passed on at once.
    """
    started = time.monotonic()
    reminded = -REMIND
    while True:
        try:
            await probe()
        except Terminal:
            raise
        except Exception as fault:
            waited = time.monotonic() - started
            reason = without_secrets(str(fault) or type(fault).__name__).strip()
            if waited >= timeout:
                raise Unavailable(f"{what} did not answer within {timeout:g} s: {reason}") from fault
            if waited - reminded >= REMIND:
                event("waiting", f"Waiting for {what}.", level=logging.WARNING, what=what, reason=reason)
                reminded = waited
            await asyncio.sleep(min(POLL, max(timeout - waited, 0.001)))
        else:
            if reminded >= 0:
                event("found", f"{what} answers.", what=what, seconds=round(time.monotonic() - started, 1))
            return
