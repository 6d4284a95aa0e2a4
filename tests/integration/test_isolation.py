"""Records that end whoever reads them are found and rejected, in every way in which a process ends; nobody else is."""

import errno
import gzip
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import StructureFault, Unavailable
from jobber.job import discover, find
from jobber.model import BatchKey, Format, InputOptions
from operators import arrow, rejects
from operators.pack import unpack
from operators.plan import plan
from operators.split import part_of, raw_text
from pipelines.isolated import Server
from pipelines.isolated_wire import Part, Ready, Unable, answer_of, encode
from pipelines.isolation import Isolation
from pipelines.opened import Delicate, Planner
from pipelines.signs import Superseded
from pipelines.work import Batch, Failed, Planned, PlanTask, Prepared, Read, Source, Spec, Unplannable
from tests.support.poison import WAYS

JOB = "01a20d2d-731e-7c5f-b0a9-7e51607f7519"
MODULES = ("tests.support.poison",)
NAMES = [f"Drop {number}" for number in range(1, 401)]


@pytest.fixture(autouse=True)
def _known() -> None:
    discover(MODULES)


@pytest.fixture
def isolation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Isolation]:
    monkeypatch.setattr("pipelines.isolation.SHORTEST", 0.3)
    made = Isolation(memory=512 << 20, seconds=1, modules=MODULES)
    yield made
    made.close()


@pytest.fixture
def patient() -> Iterator[Isolation]:
    """One that lets a record live for long enough to be met by somebody from outside."""
    made = Isolation(memory=512 << 20, seconds=3, modules=MODULES)
    yield made
    made.close()


def suspect(names: list[str], form: Format = Format.CSV, first_row: int = 1, kind: str = "Poisonous", **args: float) -> Read:
    """A batch of these names, planned as a whole input is."""
    if form is Format.CSV:
        text = "name,price\n" + "".join(f'"{name}",1.50\n' for name in names)
    elif form is Format.NDJSON:
        text = "".join(f'{{"name": "{name}", "price": 1.50}}\n' for name in names)
    else:
        text = "[" + ", ".join(f'{{"name": "{name}", "price": 1.50}}' for name in names) + "]"
    found = find(kind)
    made = plan([text.encode()], Contract.of(found.contract), InputOptions())
    (planned,) = made.batches
    data = text.encode()[planned.offset : planned.offset + planned.length]
    spec = Spec(JOB, found, found.args(**args), made.layout, {"charges": {}})
    return Read(Batch(BatchKey(JOB, 4), 4, spec, Source(), first_row, planned.rows, planned.digest), data)


def faults(made: Prepared) -> list[tuple[int, str, str]]:
    frame = rejects.from_block(made.rejects) if made.rejects else pl.DataFrame(schema={"row_no": pl.Int64, "code": pl.String})
    return [(row["row_no"], row["code"], row.get("raw", "")) for row in frame.to_dicts()]


def loaded(made: Prepared) -> dict[int, str]:
    frame = arrow.from_ipc(made.frame)
    return dict(zip(frame["row_no"].to_list(), frame["name"].to_list(), strict=True))


@pytest.mark.parametrize("form", [Format.CSV, Format.NDJSON, Format.JSON])
def test_an_innocent_suspect_is_prepared_as_any_batch(isolation: Isolation, form: Format) -> None:
    made = isolation.prepare(suspect(NAMES, form, first_row=1001))
    assert isinstance(made, Prepared)
    assert (made.key, made.target, made.rows, made.rejected, made.rejects) == (BatchKey(JOB, 4), "products", 400, 0, b"")
    assert loaded(made) == {1001 + index: name for index, name in enumerate(NAMES)}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", WAYS)
def test_a_record_that_ends_its_reader_is_rejected_alone(isolation: Isolation, way: str) -> None:
    names = [*NAMES[:123], way, *NAMES[123:]]
    made = isolation.prepare(suspect(names, first_row=1001))
    assert isinstance(made, Prepared)
    assert faults(made) == [(1124, "POISON", f'"{way}",1.50')]
    assert (made.rows, made.rejected) == (400, 1)
    assert loaded(made) == {1001 + index: name for index, name in enumerate(names) if name != way}


@pytest.mark.parametrize("form", [Format.CSV, Format.NDJSON, Format.JSON])
def test_several_are_found_beside_broken_records(isolation: Isolation, form: Format) -> None:
    names = ["kill", *NAMES[:50], "", "abort", "kill", *NAMES[50:60], "exit"]
    made = isolation.prepare(suspect(names, form))
    assert isinstance(made, Prepared)
    guilty = {1, 53, 54, 65}
    assert {row for row, code, _ in faults(made) if code == "POISON"} == guilty
    assert set(loaded(made)) | {row for row, _, _ in faults(made)} == set(range(1, 66))
    assert [row for row, _, _ in faults(made)] == sorted(row for row, _, _ in faults(made))
    assert made.rejected == len({row for row, _, _ in faults(made)})


def test_a_batch_of_one_poisonous_record(isolation: Isolation) -> None:
    made = isolation.prepare(suspect(["kill"]))
    assert isinstance(made, Prepared)
    assert faults(made) == [(1, "POISON", '"kill",1.50')]
    assert (made.rows, made.rejected, made.frame) == (0, 1, b"")


def test_a_bug_of_the_job_type_is_no_poison(isolation: Isolation) -> None:
    made = isolation.prepare(suspect([*NAMES, "bug"]))
    assert isinstance(made, Failed)
    assert made.code == "ENRICH"
    assert "a bug of the job type" in made.message


def test_a_batch_that_is_nothing_but_poison_fails_its_job(isolation: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.isolation.MOST_POISON", 9)
    made = isolation.prepare(suspect(["exit"] * 10))
    assert isinstance(made, Failed)
    assert made.code == "POISON"


def isolated_here() -> list[psutil.Process]:
    """Isolated processes of this one, and their children; what else runs below this one is not ours to touch."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "pipelines.isolated" in process.cmdline():
                found.append(process)
    return found


@contextmanager
def hunting(act: Callable[[psutil.Process], object], *, children: bool) -> Iterator[list[int]]:
    """Somebody outside does something to every isolated process, or to every child of one, while it reads."""
    hit: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not over.wait(0.01):
            for process in isolated_here():
                with suppress(psutil.Error):
                    if process.pid in hit:
                        continue
                    if children is (process.ppid() != os.getpid()) and (children or process.children()):
                        time.sleep(0.15)  # It has begun.
                        act(process)
                        hit.append(process.pid)

    thread = threading.Thread(target=hunt)
    thread.start()
    try:
        yield hit
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("children", [True, False])
def test_who_kills_the_isolated_process_makes_nobody_poison(patient: Isolation, children: bool) -> None:
    kills = iter(range(2))

    def kill(process: psutil.Process) -> None:
        if next(kills, None) is not None:
            process.kill()

    with hunting(kill, children=children) as hit:
        made = patient.prepare(suspect(["Only one"], pause=1.5))
    assert len(hit) == 3
    assert isinstance(made, Prepared)
    assert (made.rows, made.rejected) == (1, 0)


def test_who_stops_the_child_makes_nobody_poison(patient: Isolation) -> None:
    """It has 3 seconds, three times, of its own time."""

    def stop(process: psutil.Process) -> None:
        process.suspend()
        time.sleep(4)
        process.resume()

    with hunting(stop, children=True) as hit:
        made = patient.prepare(suspect(["Only one"], pause=1.5))
    assert len(hit) == 1
    assert isinstance(made, Prepared)
    assert (made.rows, made.rejected) == (1, 0)


@pytest.mark.timeout(120)
def test_a_job_type_that_is_slow_to_begin_makes_nobody_poison(isolation: Isolation) -> None:
    made = isolation.prepare(suspect([*NAMES[:4], "kill", *NAMES[4:6]], pause=0.6))
    assert isinstance(made, Prepared)
    assert [(row, code) for row, code, _ in faults(made)] == [(5, "POISON")]
    assert made.rows == 6


def test_an_isolated_process_that_does_not_start_is_no_evidence(isolation: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable):
        isolation.prepare(suspect(["Innocent"]))
    monkeypatch.undo()
    assert isinstance(isolation.prepare(suspect(["Innocent"])), Prepared)


def test_no_process_to_be_had_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", _no_fork)
    ours, theirs = Pipe()
    server = threading.Thread(target=_serve, args=(Server(theirs, 1 << 30, MODULES),))
    server.start()
    assert answer_of(ours.recv_bytes()) == Ready()
    ours.send_bytes(encode(Part(0, 1, 1.0)))
    assert answer_of(ours.recv_bytes()) == Unable("[Errno 11] no more processes")
    ours.close()
    server.join()
    theirs.close()


def _no_fork() -> int:
    raise OSError(errno.EAGAIN, "no more processes")


def _serve(server: Server) -> None:
    with suppress(EOFError):
        server.serve()


def test_a_job_type_that_cannot_be_imported_there_fails_its_job_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Isolation(memory=512 << 20, seconds=2, modules=("tests.support.no_such_module",))
    try:
        failed = made.prepare(suspect(["Innocent"]))
    finally:
        made.close()
    assert isinstance(failed, Failed)
    assert failed.code == "INTERNAL"
    assert "no_such_module" in failed.message


def test_who_may_have_less_memory_than_a_suspect_still_reads_it() -> None:
    """As an executor with JOBBER_MEMORY: what it starts cannot have more, unless it is root."""
    program = (
        "import resource, sys\n"
        "resource.prlimit(0, resource.RLIMIT_DATA, (300 << 20, 300 << 20))\n"
        "from pipelines.process import limit_memory\n"
        "limit_memory(1 << 30)\n"
        "assert resource.getrlimit(resource.RLIMIT_DATA) == (300 << 20, 300 << 20)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_a_computing_job_loses_its_poison_only(isolation: Isolation) -> None:
    made = isolation.prepare(suspect([*NAMES[:40], "kill", *NAMES[40:80]], kind="PoisonousNumbers"))
    assert isinstance(made, Prepared)
    assert (made.target, made.rows, made.rejected) == (None, 80, 1)
    results = arrow.from_ipc(made.frame)
    assert results["row_no"].to_list() == [*range(1, 41), *range(42, 82)]
    assert results["remark"].to_list() == [None] * 40 + ["second half"] * 40


def test_who_does_not_wait_any_longer_is_heard(isolation: Isolation) -> None:
    def stop() -> None:
        raise Superseded

    with pytest.raises(Superseded):
        isolation.prepare(suspect(["hang"]), stop)
    assert not isolated_here()


def test_it_ends_with_its_executor_and_knows_no_secret(isolation: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JWT_SECRET", "DATABASE_URL", "JOBBER_HOST", "PULSAR_SERVICE_URL"):
        monkeypatch.setenv(name, "canary")
    assert isinstance(isolation.prepare(suspect(["One"])), Prepared)
    (process,) = isolated_here()
    assert "canary" not in process.environ().values()
    isolation.close()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def task(folder: Path, data: bytes) -> PlanTask:
    (folder / "input").write_bytes(data)
    return PlanTask(JOB, 5, 4, find("Poisonous"), Source(blob_key="input"), InputOptions())


def planner(folder: Path) -> Planner:
    return Planner(Blobs(folder.as_uri()), 1 << 30)


def test_a_suspect_input_is_planned_as_any_other(isolation: Isolation, tmp_path: Path) -> None:
    data = b"name,price\n" + b"".join(b"%d,1.50\n" % number for number in range(2_000_000))
    seen: list[int] = []
    made = isolation.plan(task(tmp_path, data), planner(tmp_path), lambda: seen.append(1))
    assert isinstance(made, Planned)
    assert made.plan == plan([data], Contract.of(find("Poisonous").contract), InputOptions())
    assert len(made.plan.batches) > 1
    assert seen, "it gave no sign of life"


def test_a_broken_suspect_input_says_what_is_broken(isolation: Isolation, tmp_path: Path) -> None:
    made = isolation.plan(task(tmp_path, b'name,price\n"open'), planner(tmp_path), lambda: None)
    assert isinstance(made, Unplannable)
    assert made.code == "QUOTE"
    with pytest.raises(StructureFault):
        plan([b'name,price\n"open'], Contract.of(find("Poisonous").contract), InputOptions())


def test_a_suspect_input_that_is_compressed_gets_a_blob_of_its_own(isolation: Isolation, tmp_path: Path) -> None:
    data = b"name,price\n" + b"".join(b"%d,1.50\n" % number for number in range(1_000))
    made = isolation.plan(task(tmp_path, gzip.compress(data)), planner(tmp_path), lambda: None)
    assert isinstance(made, Planned)
    assert made.plan.rows == 1_000
    (path,) = (tmp_path / "plans").iterdir()
    assert made.plan.blob_key == f"plans/{path.name}"
    assert data.endswith(unpack(path.read_bytes()))


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=1000)
    return sink.getvalue()


def test_a_parquet_file_is_planned_where_nothing_else_is(isolation: Isolation, tmp_path: Path) -> None:
    whole = parquet(name=[f"P{number}" for number in range(20_000)], price=list(range(20_000)))
    asked, seen = task(tmp_path, whole), []
    with pytest.raises(Delicate):
        planner(tmp_path).plan(asked.source, Contract.of(asked.kind.contract), asked.options, lambda: None)
    made = isolation.plan(asked, planner(tmp_path), lambda: seen.append(1))
    assert isinstance(made, Planned)
    assert made.plan.rows == 20_000
    assert made.plan.blob_key is not None
    blob = (tmp_path / made.plan.blob_key).read_bytes()
    parts = [arrow.from_ipc(unpack(blob[batch.offset : batch.offset + batch.length])) for batch in made.plan.batches]
    assert pl.concat(parts)["price"].to_list() == list(range(20_000))
    # In gzip it is the same.
    again = isolation.plan(task(tmp_path, gzip.compress(whole)), planner(tmp_path), lambda: None)
    assert isinstance(again, Planned)
    assert again.plan.batches == made.plan.batches


def test_parts_of_a_batch_of_a_parquet_file_are_read_alone(isolation: Isolation, tmp_path: Path) -> None:
    asked = task(tmp_path, parquet(name=["One", "Two"], price=[1.5, 1.555]))
    made = isolation.plan(asked, planner(tmp_path), lambda: None)
    assert isinstance(made, Planned)
    assert made.plan.blob_key is not None
    data = unpack((tmp_path / made.plan.blob_key).read_bytes())
    assert raw_text(data, made.plan.layout, 1) == '{"name": "Two", "price": 1.555}'
    assert arrow.from_ipc(part_of(data, made.plan.layout, 1, 2))["name"].to_list() == ["Two"]
    spec = Spec(JOB, asked.kind, asked.kind.args(), made.plan.layout, {})
    ready = isolation.prepare(Read(Batch(BatchKey(JOB, 0), 4, spec, Source(), 1, 2, b""), data))
    assert isinstance(ready, Prepared)
    assert (ready.rows, ready.rejected) == (1, 1)


def test_rows_that_do_not_fit_into_memory_fail_the_file(isolation: Isolation, tmp_path: Path) -> None:
    """A dictionary of one text of 64 MiB, which a thousand rows name."""
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * (64 << 20)]))
    bomb = parquet(name=same, price=[1] * 1000)
    assert len(bomb) < 8 << 20
    made = isolation.plan(task(tmp_path, bomb), planner(tmp_path), lambda: None)
    assert isinstance(made, Unplannable)
    assert made.code in ("TOO_LARGE", "POISON")
    assert not list(tmp_path.rglob("plans/*"))


def test_an_input_that_ends_whoever_plans_it_cannot_be_planned(tmp_path: Path) -> None:
    # One record of 100 MB, and memory for much less.
    small = Isolation(memory=24 << 20, seconds=2, modules=MODULES)
    try:
        made = small.plan(task(tmp_path, b'name,price\n"' + b"x" * (100 << 20) + b'",1\n'), planner(tmp_path), lambda: None)
    finally:
        small.close()
    assert isinstance(made, Unplannable)
    assert made.code == "POISON"
