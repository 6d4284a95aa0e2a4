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
    "migrate.before_commit": "a service starts: a migration is applied, not committed",
    "migrate.after_commit": "it is committed, others may wait",
    "upload.before_blob": "an upload arrives and nothing of it is stored",
    "blob.after_piece": "a piece of a blob is written, more may come",
    "blob.before_sync": "all of a blob is written, none of it need be on the disk",
    "blob.before_rename": "its bytes are on the disk, it has no name",
    "blob.after_rename": "it has its name, which need not be on the disk",
    "survey.after_blob": "the blob of its batches is made while it comes, and nothing refers to it",
    "upload.after_blob": "its blob is durable, its row is not written",
    "upload.before_commit": "its row is written, not committed",
    "upload.after_commit": "its row is committed, the answer is not sent",
    "stage.after_piece": "a piece of a file that comes in pieces is written, not synced",
    "stage.before_commit": "the piece is durable, its place is not committed",
    "stage.after_commit": "it is committed, the answer is not sent",
    "stage.before_complete": "all of the file is there, its upload is not committed",
    "stage.after_complete": "its upload is committed, the answer is not sent",
    "submit.after_blob": "a large inline input is durable, its job is not written",
    "submit.before_commit": "a job's rows are written, not committed",
    "submit.after_commit": "a job is committed, the answer is not sent",
    "dispatch.before_commit": "dispatches are numbered, not committed",
    "dispatch.after_commit": "dispatches are committed, not published",
    "transport.before_publish": "messages are to be published",
    "transport.after_publish": "the transport has them, and nobody was told",
    "dispatch.after_publish": "dispatches are published",
    "dispatch.unpublished": "the transport did not take dispatches, which nobody knows yet",
    "plan.before_claim": "an executor received a job to plan",
    "claim_plan.before_commit": "an attempt to plan is counted, not committed",
    "claim_plan.after_commit": "it is committed, the reply is not sent",
    "plan.after_claim": "it was handed out",
    "plan.after_blob": "a blob was made for its plan, which is not",
    "plan.before_record": "its plan is made, not recorded",
    "record_plan.before_commit": "a plan's rows are written, not committed",
    "record_plan.after_commit": "a plan is committed, the reply is not sent",
    "record_fault.before_commit": "a file that cannot be loaded fails its job, not committed",
    "record_fault.after_commit": "it is committed, the reply is not sent",
    "plan.after_record": "its plan is recorded, the message not acknowledged",
    "plan.after_settle": "the message is acknowledged",
    "load.before_claim": "an executor received dispatches",
    "claim.before_commit": "attempts are counted, not committed",
    "claim.after_commit": "attempts are committed, the reply is not sent",
    "load.after_claim": "batches were handed out, nothing decoded",
    "load.before_write": "batches are prepared, nothing sent to products",
    "products.before_ledger": "a group has arrived, its transaction not begun",
    "products.after_ledger": "ledger rows are written, product rows are not",
    "products.in_copy": "some of the product rows are sent",
    "products.before_commit": "all rows are written, not committed",
    "products.after_commit": "a group is committed, the reply is not sent",
    "load.after_write": "receipts are there, not acknowledged to jobs",
    "acknowledge.before_commit": "receipts are stored, not committed",
    "acknowledge.after_commit": "receipts are committed, the reply is not sent",
    "load.after_acknowledge": "jobs has the receipts, the transport's message is not acknowledged",
    "transport.before_acknowledge": "messages are done with, the transport does not know",
    "transport.after_acknowledge": "the transport has forgotten them",
    "load.after_settle": "the transport's message is acknowledged",
    "load.after_hand_back": "what could not be written was handed back to the transport",
    "fail.before_commit": "a batch that can never be loaded fails its job, not committed",
    "fail.after_commit": "it is committed, the job not closed",
    "dead_letter.before_commit": "what can never be loaded is kept with its reason, not committed",
    "dead_letter.after_commit": "it is committed, and not acknowledged",
    "pause.before_commit": "a pause is written, not committed",
    "pause.after_commit": "it is committed, the answer is not sent",
    "resume.before_commit": "a paused job goes on, not committed",
    "resume.after_commit": "it is committed, the answer is not sent",
    "cancel.before_commit": "a cancel is written, not committed",
    "cancel.after_commit": "a cancel is committed, the job not closed",
    "products.before_publish": "a job's staged rows are visible, and its staging table is gone, not committed",
    "products.after_publish": "it is committed, the reply is not sent",
    "publish.after_answer": "jobs knows that a job is published, and stores nothing yet",
    "publish.before_commit": "the receipts of a published job are stored, not committed",
    "publish.after_commit": "a published job has ended",
    "products.before_close": "a job is to be closed in products, nothing committed",
    "products.after_close": "it is closed in products, the reply is not sent",
    "close.before_commit": "a closed job's receipts are stored, not committed",
    "close.after_commit": "a closed job has ended",
    "sweep.before_commit": "lost dispatches are numbered again, not committed",
    "sweep.after_commit": "they are committed, not published",
    "products.before_forget": "rejects of expired jobs are taken out of the ledger, not committed",
    "products.after_forget": "it is committed, the reply is not sent",
    "expire.before_commit": "inputs and rejects of expired jobs are let go of, not committed",
    "expire.after_commit": "it is committed, their blobs are still there",
    "expire_uploads.before_commit": "expired uploads are deleted, not committed",
    "expire_uploads.after_commit": "it is committed, their blobs are still there",
    "expire_staged.before_commit": "half an upload that is not waited for any more is deleted, not committed",
    "stray.before_delete": "blobs that nothing refers to are doomed, not deleted",
    "stray.after_delete": "they are deleted, and it is not written down",
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
