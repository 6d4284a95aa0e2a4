"""The isolated process (`python -m pipelines.isolated FD MEMORY MODULES`): reads what may end its reader.

It has no credentials and asks nobody. For each part that it is asked for it forks a child, with limits of memory and of time,
and tells how that ended. It ends with its executor.

    executor ── Load, Part … ──► isolated ──fork──► child: decode, check, enrich
             ◄── Made | Broke | Died ──         ◄── its answer, or its death
"""

import contextlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NoReturn

import msgspec
import polars as pl

from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import JobberError, StructureFault
from jobber.job import Lookups, discover, find
from jobber.local.child import end_with_supervisor, ended_by_parent
from jobber.model import BatchKey, InputOptions, Layout, Plan
from operators.frames import shown
from operators.plan import plan
from operators.split import part_of
from pipelines.prepare import meet, prepare, take
from pipelines.process import limit_memory
from pipelines.work import Batch, Read, Source, Spec

#: Seconds between two looks at a child.
LOOK = 0.02


class Load(msgspec.Struct, tag=True, frozen=True):
    """A batch, of which parts will be asked for."""

    kind: str
    args: bytes
    layout: Layout
    lookups: Lookups
    data: bytes
    first_row: int


class Part(msgspec.Struct, tag=True, frozen=True):
    """Prepare records `first` to `last` (from 0, `last` not among them) of the batch."""

    first: int
    last: int
    seconds: float


class Raw(msgspec.Struct, tag=True, frozen=True):
    """The raw text of a record, without taking it apart."""

    index: int
    seconds: float


class Scan(msgspec.Struct, tag=True, frozen=True):
    """Plan an input; `seconds` is how long it may take to read the next window."""

    kind: str
    options: InputOptions
    inline: bytes | None
    blobs_url: str
    blob_key: str
    seconds: float


class Made(msgspec.Struct, tag=True, frozen=True):
    """A part, ready to be written: as pipelines.work.Prepared."""

    rows: int
    rejected: int
    rejects: bytes
    frame: bytes


class Text(msgspec.Struct, tag=True, frozen=True):
    """A raw text."""

    text: str


class Cut(msgspec.Struct, tag=True, frozen=True):
    """A plan (jobber.model.Plan, JSON)."""

    plan: bytes


class Broke(msgspec.Struct, tag=True, frozen=True):
    """The code that was asked raised: it is told from a death."""

    code: str
    message: str


class Died(msgspec.Struct, tag=True, frozen=True):
    """The child ended by itself, or had to be ended."""

    how: str


class Alive(msgspec.Struct, tag=True, frozen=True):
    """A scan goes on."""


Task = Load | Part | Raw | Scan
Answer = Made | Text | Cut | Broke | Died | Alive
_tasks = msgspec.msgpack.Decoder(Task)
_answers = msgspec.msgpack.Decoder(Answer)
encode = msgspec.msgpack.encode


def answer_of(data: bytes | bytearray) -> Answer:
    """Raises msgspec.MsgspecError for what is none."""
    answer: Answer = _answers.decode(data)
    return answer


def main() -> None:
    """Serve until the executor closes its end."""
    end_with_supervisor()
    # What dies here is meant to: no core files.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    descriptor, memory, modules = sys.argv[1:]
    connection = Connection(int(descriptor))
    discover(tuple(filter(None, modules.split(","))))
    server = Server(connection, int(memory))
    with contextlib.suppress(EOFError):
        while True:
            server.serve(_tasks.decode(connection.recv_bytes()))


class Server:
    """Holds one batch, and forks a child for each part of it."""

    def __init__(self, connection: Connection, memory: int) -> None:
        self._connection = connection
        self._memory = memory
        self._batch: Load | None = None

    def serve(self, task: Task) -> None:
        """Do one task."""
        if isinstance(task, Load):
            self._batch = task
            return
        self._tell(self._forked(task))

    def _tell(self, answer: Answer) -> None:
        self._connection.send_bytes(encode(answer))

    def _forked(self, task: Part | Raw | Scan) -> Answer:
        reader, writer = os.pipe()
        tie = ended_by_parent(signal.SIGKILL)
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._child(task, writer, tie)
        os.close(writer)
        try:
            return self._watch(task, child, reader)
        finally:
            # With all that it started: nothing of it goes on.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.close(reader)

    def _child(self, task: Part | Raw | Scan, writer: int, tie: Callable[[], None]) -> NoReturn:
        """Never comes back."""
        try:
            os.setsid()
            tie()
            self._connection.close()
            limit_memory(self._memory)
            answer = self._work(task, writer)
            _write(writer, encode(answer))
            os._exit(0)
        except MemoryError:
            os._exit(NO_MEMORY)
        finally:
            os._exit(1)

    def _work(self, task: Part | Raw | Scan, writer: int) -> Answer:
        try:
            if isinstance(task, Scan):
                return Cut(msgspec.json.encode(_scan(task, lambda: _write(writer, b"."))))
            assert self._batch is not None
            if isinstance(task, Raw):
                return Text(shown(part_of(self._batch.data, self._batch.layout, task.index, task.index + 1).rstrip(b"\r\n")))
            return _part(self._batch, task)
        except MemoryError:
            raise
        except StructureFault as fault:
            return Broke(fault.fault, fault.message)
        except JobberError as fault:
            return Broke(fault.code, fault.message)
        # What Polars panics with is no Exception.
        except (Exception, pl.exceptions.PanicException) as fault:
            return Broke("ENRICH", f"{type(fault).__name__}: {fault}"[:500])

    def _watch(self, task: Part | Raw | Scan, child: int, reader: int) -> Answer:
        """What the child answered, or how it ended."""
        os.set_blocking(reader, False)
        told, deadline = bytearray(), time.monotonic() + task.seconds
        status = None
        while status is None:
            select.select([reader], [], [], LOOK)
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                status = code
            more = _drain(reader)
            told += more
            if isinstance(task, Scan) and more:
                deadline = time.monotonic() + task.seconds
                self._tell(Alive())
            if status is None and time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return Died(f"it did not end within {task.seconds:g} s")
        if status == 0:
            return answer_of(bytes(told).lstrip(b".") if isinstance(task, Scan) else told)
        if os.WIFSIGNALED(status):
            return Died(f"it ended with {signal.Signals(os.WTERMSIG(status)).name}")
        code = os.WEXITSTATUS(status)
        return Died("it needed more memory than it may have" if code == NO_MEMORY else f"it ended with exit code {code}")


#: Exit code of a child that ran into its limit of memory.
NO_MEMORY = 86


def _part(batch: Load, task: Part) -> Answer:
    kind = find(batch.kind)
    data = part_of(batch.data, batch.layout, task.first, task.last)
    spec = Spec("", kind, kind.decode_args(batch.args), batch.layout, batch.lookups)
    rows = task.last - task.first
    made = prepare(meet(take(Read(Batch(BatchKey("", 0), 1, spec, Source(), batch.first_row + task.first, rows, b""), data))))
    return Made(made.rows, made.rejected, made.rejects, made.frame)


def _scan(task: Scan, goes_on: Callable[[], None]) -> Plan:
    windows = [task.inline] if task.inline is not None else Blobs(task.blobs_url).windows(task.blob_key)

    def read() -> Iterator[bytes]:
        for window in windows:
            goes_on()
            yield window

    return plan(read(), Contract.of(find(task.kind).contract), task.options)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _drain(descriptor: int) -> bytes:
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
    return b"".join(parts)


if __name__ == "__main__":
    main()
