"""Named fault points: places between upload and final state where tests kill, freeze or fail a process.

Off unless JOBBER_FAIL is set: `name:nth:kill|pause|error`, several separated by commas. `nth` counts how often this process
reached the point, from 1. `kill` is SIGKILL, `pause` is SIGSTOP (someone else has to send SIGCONT), `error` raises
Unavailable. With JOBBER_FAIL_ONCE, a folder, each fires once however often the process is started again.
"""

import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from jobber.errors import Unavailable

#: Every fault point, in the order in which a job passes them.
POINTS: Mapping[str, str] = {
    "upload.before_blob": "an upload arrives and nothing of it is stored",
    "upload.after_blob": "its blob is durable, its row is not written",
    "upload.after_commit": "its row is committed, the answer is not sent",
    "submit.before_commit": "a job's rows are written, not committed",
    "submit.after_commit": "a job is committed, the answer is not sent",
    "dispatch.before_commit": "dispatches are numbered, not committed",
    "dispatch.after_commit": "dispatches are committed, not published",
    "dispatch.after_publish": "dispatches are published",
    "plan.before_claim": "an executor received a job to plan",
    "plan.after_claim": "it was handed out",
    "plan.before_record": "its plan is made, not recorded",
    "record_plan.before_commit": "a plan's rows are written, not committed",
    "record_plan.after_commit": "a plan is committed, the reply is not sent",
    "plan.after_record": "its plan is recorded, the message not acknowledged",
    "load.before_claim": "an executor received dispatches",
    "claim.before_commit": "attempts are counted, not committed",
    "claim.after_commit": "attempts are committed, the reply is not sent",
    "load.after_claim": "batches were handed out, nothing decoded",
    "load.before_write": "batches are prepared, nothing sent to products",
    "products.before_ledger": "a group has arrived, its transaction not begun",
    "products.after_ledger": "ledger rows are written, product rows are not",
    "products.before_commit": "all rows are written, not committed",
    "products.after_commit": "a group is committed, the reply is not sent",
    "load.after_write": "receipts are there, not acknowledged to jobs",
    "acknowledge.before_commit": "receipts are stored, not committed",
    "acknowledge.after_commit": "receipts are committed, the reply is not sent",
    "load.after_acknowledge": "jobs has the receipts, the transport's message is not acknowledged",
    "load.after_settle": "the transport's message is acknowledged",
    "cancel.after_commit": "a cancel is committed, the job not closed",
    "products.before_close": "a job is to be closed in products, nothing committed",
    "products.after_close": "it is closed in products, the reply is not sent",
    "close.before_commit": "a closed job's receipts are stored, not committed",
    "close.after_commit": "a closed job has ended",
    "sweep.before_commit": "lost dispatches are numbered again, not committed",
}

_ACTIONS = ("kill", "pause", "error")
_reached: Counter[str] = Counter()


def _parse(text: str) -> dict[tuple[str, int], str]:
    """Raises ValueError for a point, a number or an action that there is not."""
    armed = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, nth, action = part.split(":")
        if name not in POINTS or action not in _ACTIONS or int(nth) < 1:
            raise ValueError(f"JOBBER_FAIL: {part!r} is not name:nth:{'|'.join(_ACTIONS)} with a known name")
        armed[name, int(nth)] = action
    return armed


_armed = _parse(os.environ.get("JOBBER_FAIL", ""))


def point(name: str) -> None:
    """The process is at this fault point. Costs a look at an empty dict when nothing is armed."""
    if not _armed:
        return
    assert name in POINTS, name
    _reached[name] += 1
    action = _armed.get((name, _reached[name]))
    if action is None or not _first(name, _reached[name]):
        return
    if action == "error":
        raise Unavailable(f"fault point {name}")
    os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)


def _first(name: str, nth: int) -> bool:
    """Whether nobody fired it before, by a file that only one process can make."""
    folder = os.environ.get("JOBBER_FAIL_ONCE")
    if not folder:
        return True
    try:
        (Path(folder) / f"{name}.{nth}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
