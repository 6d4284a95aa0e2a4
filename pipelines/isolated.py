"""The isolated process (`python -m pipelines.isolated FD MEMORY MODULES`): reads what may end its reader.

It has no credentials of the services and asks none of them. For each part that it is asked for it forks a child, with limits of
memory and of time, and tells how that ended (pipelines/isolated_wire.py). It ends with its executor.

Job types are imported in the child only: one that used Polars at import would leave the forked child a pool without threads,
in which an innocent record waits for ever.
"""

import contextlib
import ctypes
import importlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NoReturn

import msgspec
import polars as pl

from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import JobberError, NotFound, StructureFault
from jobber.job import BUILT_IN, discover, find
from jobber.local.child import end_with_supervisor, ended_by_parent
from jobber.model import BatchKey, Plan
from operators.split import part_of, raw_text
from pipelines.allowance import Allowance
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
    Text,
    Unable,
    answer_of,
    encode,
    task_of,
)
from pipelines.opened import Planner
from pipelines.prepare import meet, prepare, take
from pipelines.process import limit_memory
from pipelines.work import Batch, Read, Source, Spec

#: Seconds between two looks at a child, between two at what it used up, and between two signs of life.
LOOK, ACCOUNT, TELL = 0.02, 0.1, 1.0
#: Seconds that a child has to import the job types.
STARTING = 60.0
#: What a child writes before its answer: it began, and it read a window of an input. No answer begins like that.
BEGUN, WINDOW = b"!", b"."
#: Exit code of a child that ran into its limit of memory.
NO_MEMORY = 86
#: prctl(2): no core file, wherever the machine sends them.
PR_SET_DUMPABLE = 4


def main() -> None:
    """Serve until the executor closes its end."""
    end_with_supervisor()
    descriptor, memory, modules = sys.argv[1:]
    # What dies here is meant to: no core files.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for module in BUILT_IN:
        importlib.import_module(module)
    server = Server(Connection(int(descriptor)), int(memory), tuple(filter(None, modules.split(","))))
    # The executor may be gone while it is told something.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        server.serve()


class Server:
    """Holds one batch, and forks a child for each part of it."""

    def __init__(self, connection: Connection, memory: int, modules: tuple[str, ...]) -> None:
        self._connection = connection
        self._memory = memory
        self._modules = modules
        self._batch: Load | None = None

    def serve(self) -> None:
        """Do one task after the other. Raises EOFError when the executor has no more."""
        self._tell(Ready())
        while True:
            task = task_of(self._connection.recv_bytes())
            if isinstance(task, Load):
                self._batch = task
            else:
                self._tell(self._forked(task))

    def _tell(self, answer: Answer) -> None:
        self._connection.send_bytes(encode(answer))

    def _forked(self, task: Part | Raw | Scan) -> Answer:
        try:
            reader, writer = os.pipe()
        except OSError as fault:
            return Unable(str(fault))
        tie = ended_by_parent(signal.SIGKILL)
        try:
            child = os.fork()
        except OSError as fault:
            os.close(reader)
            os.close(writer)
            return Unable(str(fault))
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
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
            self._connection.close()
            answer = self._ready() or self._work(task, writer)
            _write(writer, encode(answer))
            os._exit(0)
        except MemoryError:
            os._exit(NO_MEMORY)
        finally:
            os._exit(1)

    def _work(self, task: Part | Raw | Scan, writer: int) -> Answer:
        limit_memory(self._memory)
        _write(writer, BEGUN)
        try:
            if isinstance(task, Scan):
                return Cut(msgspec.json.encode(_scan(task, lambda: _write(writer, WINDOW))))
            assert self._batch is not None
            if isinstance(task, Raw):
                return Text(raw_text(self._batch.data, self._batch.layout, task.index))
            return _part(self._batch, task)
        except MemoryError:
            raise
        except StructureFault as fault:
            return Broke(fault.fault, fault.message)
        except NotFound as fault:
            return Broke("INPUT_MISSING", fault.message)
        except JobberError as fault:
            return Broke(fault.code, fault.message)
        # What Polars panics with is no Exception.
        except (Exception, pl.exceptions.PanicException) as fault:
            return Broke("INTERNAL", f"{type(fault).__name__}: {fault}"[:500])

    def _ready(self) -> Answer | None:
        """Import the job types; the answer is why that cannot be done."""
        try:
            discover(self._modules)
        except (MemoryError, OSError) as fault:
            return Unable(str(fault))
        except Exception as fault:
            why = f"its job types cannot be imported where no credentials are: {type(fault).__name__}: {fault}"
            return Broke("INTERNAL", why[:500])
        return None

    def _watch(self, task: Part | Raw | Scan, child: int, reader: int) -> Answer:
        """What the child answered, or how it ended."""
        os.set_blocking(reader, False)
        told, status, allowance, pause = bytearray(), None, None, 0.001
        began = looked = spoke = time.monotonic()
        while status is None:
            if not select.select([reader], [], [], LOOK)[0]:
                pass
            elif more := _drain(reader):
                told += more
                if isinstance(task, Scan):  # Each window has time of its own, and is a sign of life.
                    allowance, spoke = None, 0.0
                allowance = allowance or Allowance(child, task.seconds)
            else:
                time.sleep(pause)  # It closed its end: it is about to end, or goes on.
                pause = min(pause * 2, LOOK)
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                status = code
                told += _drain(reader)
                break
            now = time.monotonic()
            if now - spoke > TELL:
                spoke = now
                self._tell(Alive())
            if now - looked > ACCOUNT:
                looked = now
                if allowance is None and now - began > STARTING:
                    _end(child)
                    return Unable("its child did not start")
                if allowance is not None and allowance.over:
                    _end(child)
                    return Died(f"it did not end within {task.seconds:g} s", late=True)
        return _outcome(status, bytes(told))


def _outcome(status: int, told: bytes) -> Answer:
    """What a child that ended so, and said that, stands for."""
    answer = told.lstrip(BEGUN + WINDOW)
    if status == 0 and answer:
        with contextlib.suppress(msgspec.MsgspecError):
            return answer_of(answer)
    if not told:
        return Unable("its child ended before it began")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Died(f"it ended with {signal.Signals(number).name if number in set(signal.Signals) else f'signal {number}'}")
    code = os.WEXITSTATUS(status)
    return Died("it needed more memory than it may have" if code == NO_MEMORY else f"it ended with exit code {code}")


def _end(child: int) -> None:
    """With all that it started."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _part(batch: Load, task: Part) -> Answer:
    kind = find(batch.kind)
    data = part_of(batch.data, batch.layout, task.first, task.last)
    spec = Spec("", kind, kind.decode_args(batch.args), batch.layout, batch.lookups, batch.writing)
    rows = task.last - task.first
    met = meet(take(Read(Batch(BatchKey("", 0), 1, spec, Source(), batch.first_row + task.first, rows, b""), data)))
    try:
        made = prepare(met)
    except MemoryError:
        raise
    except (Exception, pl.exceptions.PanicException) as fault:
        return Broke("ENRICH", f"{type(fault).__name__}: {fault}"[:500])
    return Made(made.rows, made.rejected, made.rejects, bytes(made.frame))


def _scan(task: Scan, goes_on: Callable[[], None]) -> Plan:
    planner = Planner(Blobs(task.blobs_url), task.expanded_bytes, isolated=True)
    source = Source(inline=task.inline, blob_key=task.blob_key)
    return planner.plan(source, Contract.of(find(task.kind).contract), task.options, goes_on)


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
