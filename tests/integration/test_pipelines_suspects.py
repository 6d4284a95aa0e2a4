"""The executor and batches that may end it: what hangs or devours ends it, what is killed from outside harms nobody."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jobber.job import discover
from operators import rejects
from pipelines import signs
from tests.integration.peer import Key
from tests.integration.peers import Peers, peers, until
from tests.integration.pipelines_flow import Flow, flowing
from tests.integration.test_pipelines_process import Executor, executor

MODULES = "tests.support.poison"


@pytest.fixture
def around(database: str, tmp_path: Path) -> Iterator[Peers]:
    discover((MODULES,))
    with peers(database, tmp_path) as made:
        yield made


def submitted(around: Peers, *names: str, pause: float = 0, attempts: int = 0) -> list[Key]:
    """A job of drops with these names, of which each batch takes so long, and was begun so often."""
    data = "name,price\n" + "".join(f"{name},1.50\n" for name in names)
    keys = around.add(data.encode(), name="Poisonous")
    around.jobs.specs[keys[0][0]].args = b'{"pause": %f}' % pause
    around.jobs.attempts.update(dict.fromkeys(keys, attempts))
    around.publish(keys, topic="Poisonous.fast")
    return keys


def isolated(of: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in of.children(recursive=True):
        with suppress(psutil.Error):
            if "pipelines.isolated" in process.cmdline():
                found.append(process)
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return all(not seen.is_running() or seen.status() == psutil.STATUS_ZOMBIE for seen in processes)


@pytest.mark.parametrize("way", ["hang", "hang in C"])
def test_a_step_that_never_returns_ends_its_executor(around: Peers, way: str) -> None:
    with executor(around, JOBBER_JOB_MODULES=MODULES, JOBBER_STALL_SECONDS="2") as process:
        children = process.ready().children()
        keys = submitted(around, way)
        assert process.process.wait(30) == 1
        until(lambda: gone(children))
        process.end()
        assert any("Timeout" in line["message"] for line in process.log), "it does not say where it stood"
        assert any("poison.py" in line["message"] for line in process.log)
    assert around.jobs.attempts == {keys[0]: 1}
    assert around.waiting() == 1


def test_who_waits_for_work_or_for_a_slow_service_is_not_ended(around: Peers) -> None:
    with executor(around, JOBBER_JOB_MODULES=MODULES, JOBBER_STALL_SECONDS="2") as process:
        process.ready()
        assert process.process.poll() is None
        keys = submitted(around, "Slow", pause=3, attempts=4)  # Longer than a step may take.
        more = submitted(around, "Slow", pause=1.2)
        until(lambda: around.settled([*keys, *more]), 30)
        with pytest.raises(TimeoutError):
            wait(process, 3)
    assert around.jobs.attempts == {keys[0]: 5, more[0]: 1}


def wait(process: Executor, seconds: float) -> None:
    """Raises TimeoutError when it lives on."""
    try:
        psutil.Process(process.process.pid).wait(seconds)
    except psutil.TimeoutExpired as fault:
        raise TimeoutError from fault


def test_an_executor_that_needs_too_much_memory_ends_alone(around: Peers) -> None:
    with executor(around, JOBBER_JOB_MODULES=MODULES, JOBBER_MEMORY=str(512 << 20)) as process:
        process.ready()
        keys = submitted(around, "devour")
        assert process.process.wait(30) == -signal.SIGKILL
        process.end()
        assert "out of memory" in process.said("failed")[0]["message"]
    assert around.jobs.attempts == {keys[0]: 1}
    assert around.waiting() == 1


def test_kills_in_a_row_harm_no_record(around: Peers) -> None:
    """Two while it is a batch as any other, and four as a suspect."""
    keys = submitted(around, "Innocent", "Guiltless", pause=0.5, attempts=2)
    for number in range(3, 9):
        with executor(around, JOBBER_JOB_MODULES=MODULES) as process:
            until(lambda number=number: around.jobs.attempts[keys[0]] == number, 30)  # type: ignore[misc]
            if number > 4:
                until(lambda process=process: len(isolated(psutil.Process(process.process.pid))) > 1, 30)  # type: ignore[misc]
            children = process.children()
            process.end(signal.SIGKILL)
            until(lambda children=children: gone(children))  # type: ignore[misc]
    with executor(around, JOBBER_JOB_MODULES=MODULES) as process:
        until(lambda: around.settled(keys), 30)
        assert process.said("isolated")
        assert process.end() == 0
    assert around.exact(keys, 2)
    assert (around.jobs.receipts[keys[0]].inserted, around.jobs.receipts[keys[0]].rejected) == (2, 0)
    assert around.jobs.attempts == {keys[0]: 9}
    assert not around.jobs.failures


def test_a_poisonous_record_costs_executors_and_itself_and_nothing_else(around: Peers) -> None:
    keys = submitted(around, "Innocent", "kill", "Guiltless")
    for _ in range(3):
        with executor(around, JOBBER_JOB_MODULES=MODULES) as process:
            assert process.process.wait(30) == -signal.SIGKILL
    with executor(around, JOBBER_JOB_MODULES=MODULES) as process:
        until(lambda: around.settled(keys), 30)
        assert process.end() == 0
        assert process.said("poison_found")[0]["row"] == 2
    receipt = around.jobs.receipts[keys[0]]
    assert (receipt.inserted, receipt.rejected) == (2, 1)
    assert around.products.rows[keys[0]]["row_no"].to_list() == [1, 3]
    block = rejects.from_block(receipt.rejects)
    assert block.select("row_no", "column", "code", "raw").rows() == [(2, None, "POISON", "kill,1.50")]


def test_a_suspect_is_kept_while_it_is_read(around: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "RENEW_EVERY", 0.5)
    keys = submitted(around, "Slow", pause=3, attempts=3)
    with flowing(around):
        until(lambda: around.settled(keys))
    assert around.jobs.faults.calls["Renew"] > 0
    assert around.exact(keys, 1)


def test_a_suspect_that_nobody_waits_for_is_let_go(around: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "RENEW_EVERY", 0.5)
    around.jobs.lapsed = True
    submitted(around, "hang", attempts=3)
    with flowing(around) as flow:
        until(lambda: around.waiting() == 0)
        assert not isolated(psutil.Process())
    assert not flow.consumer.handed_back
    assert not around.jobs.acknowledged
    assert not around.products.ledger


def test_stopping_does_not_wait_for_a_suspect(around: Peers) -> None:
    submitted(around, "hang", attempts=3)
    flow = Flow(around, 1, 10)
    until(lambda: len(isolated(psutil.Process())) > 1)
    began = time.monotonic()
    flow.stop()
    # It would have 30 seconds, and be cut afterwards.
    assert time.monotonic() - began < 10
    assert len(flow.consumer.handed_back) == 1
    assert around.waiting() == 1
