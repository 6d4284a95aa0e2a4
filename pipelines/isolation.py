"""Suspects: batches, and inputs to plan, that were begun several times without an end. They are read in a process of their own.

Only what happens there is evidence: a process that is killed from outside takes along whatever it holds, guilty or not. A part
of a batch that ends its reader is cut into smaller ones, down to single records; a record that ends a reader of its own several
times in a row is rejected as POISON, and all others are loaded under the batch's one key in the ledger.
"""

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import msgspec

from jobber.errors import DiskFull, Unavailable
from jobber.local.child import SUPERVISOR
from jobber.log import event
from jobber.model import Plan
from operators import arrow, rejects
from operators.frames import faults_of
from operators.split import parts
from pipelines.isolated_wire import (
    Alive,
    Answer,
    Broke,
    Cut,
    Died,
    Load,
    Made,
    Part,
    Raw,
    Ready,
    Scan,
    Task,
    Text,
    Unable,
    answer_of,
    encode,
)
from pipelines.opened import Planner
from pipelines.work import Failed, Planned, PlanTask, Prepared, Read, Unplannable

#: Readers that a record, or an input to plan, must end one after the other: somebody outside may have killed one or two.
PROOFS = 3
#: Records of one batch that may be POISON; a batch of which more are fails its job.
MOST_POISON = 100
#: Seconds that even the smallest part gets, at first.
SHORTEST = 3.0
#: How much longer the smallest time is after each part that was not ready in time: a job type may be slow to begin.
LONGER = 1.25
#: Seconds that the isolated process has to start, and to show that it lives.
SLACK = 60.0
#: Tries to reach an isolated process that others keep killing.
TRIES = 5
#: Seconds that a scan may take for one window of the input (8 MiB).
WINDOW = 60.0

Range = tuple[int, int]


class Isolation:
    """Starts the isolated process when it is first needed, and again when it dies. Used by one thread."""

    def __init__(
        self, *, memory: int, seconds: float, modules: Sequence[str], beat: Callable[[], object] = lambda: None
    ) -> None:
        """`memory` (bytes) and `seconds` are what a whole batch may take; `beat` is called while it is waited for."""
        self._memory = memory
        self._seconds = seconds
        self._modules = modules
        self._beat = beat
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def prepare(self, read: Read, goes_on: Callable[[], None] = lambda: None) -> Prepared | Failed:
        """What Steps would make of the batch; records that end their reader are rejects with the code POISON.

        `goes_on` is called now and then, and may raise. Raises Unavailable when no process is to be had.
        """
        batch, key = read.batch, read.batch.key
        event("isolated", "A suspect is read in a process of its own.", job=key.job_id, batch=key.batch_no)
        spec = batch.spec
        load = Load(
            spec.kind.name, msgspec.json.encode(spec.args), spec.layout, spec.lookups, read.data, batch.first_row, spec.writing
        )
        made: list[tuple[int, Made]] = []
        poison: dict[int, str] = {}
        deaths, least = 0, SHORTEST
        waiting: deque[Range] = deque([(0, batch.rows)])
        while waiting:
            first, last = waiting.popleft()
            # What condemns a record is that it had all the time of a batch.
            whole = last - first == 1 and deaths == PROOFS - 1
            seconds = self._seconds if whole else max(self._seconds * (last - first) / batch.rows, min(least, self._seconds))
            answer = self._ask(load, Part(first, last, seconds), goes_on)
            if isinstance(answer, Made):
                made.append((first, answer))
                deaths = 0
                continue
            if isinstance(answer, Broke):
                why = f"batch {key.batch_no} cannot be loaded: {answer.message}"
                return Failed(key, answer.code, why)
            how, late = (answer.how, answer.late) if isinstance(answer, Died) else ("it did not answer", False)
            least *= LONGER if late else 1
            if last - first > 1:
                waiting.extendleft(reversed(parts(first, last)))
                deaths = 0
            elif (deaths := deaths + 1) < PROOFS:
                waiting.appendleft((first, last))
            else:
                deaths = 0
                poison[first] = how
                event(
                    "poison_found",
                    f"A record ends whoever reads it: {how}.",
                    level=logging.WARNING,
                    job=key.job_id,
                    batch=key.batch_no,
                    row=batch.first_row + first,
                )
                if len(poison) > MOST_POISON:
                    why = f"more than {MOST_POISON} records of batch {key.batch_no} end whoever reads them."
                    return Failed(key, "POISON", why)
        return self._merged(read, load, [part for _, part in sorted(made, key=lambda item: item[0])], poison)

    def _merged(self, read: Read, load: Load, made: Sequence[Made], poison: dict[int, str]) -> Prepared:
        batch = read.batch
        blocks = [part.rejects for part in made]
        if poison:
            texts = {batch.first_row + index: self._raw(load, index) for index in poison}
            rows = [
                (batch.first_row + index, None, "POISON", f"This record ends whoever reads it: {how}.")
                for index, how in sorted(poison.items())
            ]
            blocks.append(rejects.to_block(faults_of(rows), lambda rows: [texts[row] for row in rows]))
        block = rejects.concat(blocks)
        concat = arrow.concat if batch.spec.kind.target is not None else arrow.concat_blocks
        return Prepared(
            batch.key,
            batch.spec.target,
            sum(part.rows for part in made),
            sum(part.rejected for part in made) + len(poison),
            block,
            concat([part.frame for part in made]),
            rejects.by_code(rejects.from_block(block)) if block else {},
            batch.spec.writing.staged,
        )

    def _raw(self, load: Load, index: int) -> str:
        answer = self._ask(load, Raw(index, SHORTEST))
        return answer.text if isinstance(answer, Text) else ""

    def plan(self, task: PlanTask, planner: Planner, goes_on: Callable[[], None]) -> Planned | Unplannable:
        """What the planner would make of the input; one that ends its reader cannot be planned. `goes_on` may raise."""
        event("isolated", "A suspect is planned in a process of its own.", job=task.job_id)
        source = task.source
        scan = Scan(
            task.kind.name,
            task.options,
            source.inline,
            planner.blobs.url,
            source.blob_key,
            planner.expanded_bytes,
            WINDOW,
        )
        for _ in range(PROOFS):
            answer = self._ask(None, scan, goes_on)
            if isinstance(answer, Cut):
                return Planned(task.job_id, msgspec.json.decode(answer.plan, type=Plan))
            if isinstance(answer, Broke):
                if answer.code in (Unavailable.code, DiskFull.code):
                    raise Unavailable(answer.message)
                return Unplannable(task.job_id, answer.code, answer.message)
        how = answer.how if isinstance(answer, Died) else "it did not answer"
        return Unplannable(task.job_id, "POISON", f"this input ends whoever reads it: {how}.")

    def _ask(self, load: Load | None, task: Part | Raw | Scan, goes_on: Callable[[], None] = lambda: None) -> Answer:
        """The answer. A process that dies itself while it has a task is as good a death as that of its child.

        Raises Unavailable when the task did not even begin: that says nothing about any record.
        """
        try:
            connection = self._given(load, task)
            while True:
                try:
                    answer = self._received(connection)
                except (EOFError, OSError, msgspec.MsgspecError) as fault:
                    self.close()
                    return Died(f"its process ended ({type(fault).__name__})")
                if isinstance(answer, Unable):
                    raise Unavailable(f"The isolated process could not begin: {answer.why}")
                if not isinstance(answer, Alive | Ready):
                    return answer
                goes_on()
        except BaseException:
            # Whatever it is doing now, nobody wants it.
            self.close()
            raise

    def _given(self, load: Load | None, task: Part | Raw | Scan) -> Connection:
        """The process, which has the batch and the task. Raises Unavailable."""
        for _ in range(TRIES):
            try:
                connection = self._connection or self._start()
                if load is not None and load is not self._load:
                    self._send(connection, load)
                    self._load = load
                self._send(connection, task)
                return connection
            except (EOFError, OSError):
                self.close()
        raise Unavailable("The isolated process cannot be started.")

    def _received(self, connection: Connection) -> Answer:
        """Raises EOFError, OSError; TimeoutError (an OSError) when it shows no sign of life."""
        waited = 0.0
        while not connection.poll(0.2):
            self._beat()
            waited += 0.2
            if waited > SLACK:
                raise TimeoutError
        self._beat()
        return answer_of(connection.recv_bytes())

    def _send(self, connection: Connection, task: Task) -> None:
        connection.send_bytes(encode(task))

    _load: Load | None = None

    def _start(self) -> Connection:
        """Raises EOFError, OSError."""
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        with theirs:
            arguments = (str(theirs.fileno()), str(self._memory), ",".join(self._modules))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipelines.isolated", *arguments],
                pass_fds=[theirs.fileno()],
                env=_environment(),
            )
        self._received(self._connection)
        return self._connection

    def close(self) -> None:
        """End the process, if there is one."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._connection = self._process = self._load = None


def _environment() -> dict[str, str]:
    """It finds every module that this process finds, and none of its addresses and secrets."""
    ours = ("JOBBER_", "DATABASE_URL", "PULSAR_SERVICE_URL", "JWT_SECRET", "AUTH_GRPC_", "JOBS_GRPC_", "PRODUCTS_GRPC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    mine = {SUPERVISOR: str(os.getpid()), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Arrow's own allocator reserves 1 GiB at a time: under a limit of memory it then may have none for 448 bytes, and innocent
    # records would be POISON.
    mine["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    # As in the planning process: each arena of a thread keeps what it had at its largest.
    return {"MALLOC_ARENA_MAX": "2", **kept, **mine}
