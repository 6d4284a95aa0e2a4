"""Every named fault point is killed once, in running systems, and what comes of it is exact.

A system arms several points at once; each fires once, whoever comes by, and leaves a file that says so. They are spread over
several systems, because `up` waits longer and longer before it starts again what ends early.
"""

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobber import faults
from jobber.cli.tus import Upload
from jobber.errors import NotFound
from jobber.model import State
from tests.support import system as running
from tests.support.campaign import (
    EVERY,
    blobs,
    change,
    ended,
    expect_exact,
    expect_nothing_left,
    load,
    persist,
    rejects,
    submit,
    write,
)
from tests.support.system import System, until

ROWS = 600
#: Six batches of a file; an inline input of more than so many bytes is a blob.
SMALL = {
    "JOBBER_BATCH_ROWS": "100",
    "JOBBER_INLINE_BYTES": "1000",
    "JOBBER_JOB_MODULES": "tests.support.jobtypes",
    "JOBBER_STRAY_MINUTES": "0.05",
    # What is surveyed while it comes needs no planner.
    "JOBBER_SURVEYS_AT_ONCE": "0",
}
#: As days.
SECONDS = 1 / 86_400


def uploads(system: System, folder: Path) -> None:
    for _ in range(2):
        stored = persist(lambda: system.client.upload(write(folder / "products.csv", ROWS)))
    job_id = submit(system.client, "LoadProducts", {"uploadId": stored["id"]})
    expect_exact(system, ended(system.client, job_id), ROWS)


def staging(system: System, folder: Path) -> None:
    """Files in pieces: what was acknowledged stays, and who was not told asks."""
    for number in range(3):
        path = write(folder / f"pieces-{number}.csv", ROWS + number)
        upload = Upload(system.client, path, most=2000)
        job_id = submit(system.client, "LoadProducts", {"uploadId": upload.send()})
        upload.forget()
        expect_exact(system, ended(system.client, job_id), ROWS + number)


def submissions(system: System, folder: Path) -> None:
    uploads(system, folder)
    before = system.rows("SELECT count(*) FROM jobs.jobs")[0][0]
    records = [{"name": f"Product {row}", "price": row + 0.25} for row in range(1, 41)]
    job_id = submit(system.client, "LoadProducts", {"rows": records}, key="the same")
    assert submit(system.client, "LoadProducts", {"rows": records}, key="the same") == job_id
    expect_exact(system, ended(system.client, job_id), 40)
    assert system.rows("SELECT count(*) FROM jobs.jobs") == [(before + 1,)]


def loads(system: System, folder: Path) -> None:
    """Two at once, one large and one small, so that both lanes are used."""
    many, few = load(system, folder / "many.csv", ROWS), load(system, folder / "few.csv", 40)
    expect_exact(system, ended(system.client, many, 90), ROWS)
    expect_exact(system, ended(system.client, few), 40)


def dispatching(system: System, folder: Path) -> None:
    """Jobs without a plan: what is lost of them are batches, which only a sweep finds."""
    for _ in range(2):
        job_id = submit(system.client, "LoadProducts", {"rows": [{"name": "Product 1", "price": 1.25}]})
        expect_exact(system, ended(system.client, job_id, 90), 1)


def planning(system: System, folder: Path) -> None:
    loads(system, folder)
    packed = folder / "packed.csv.gz"
    packed.write_bytes(gzip.compress(write(folder / "packed.csv", ROWS).read_bytes()))
    stored = persist(lambda: system.client.upload(packed))
    expect_exact(system, ended(system.client, submit(system.client, "LoadProducts", {"uploadId": stored["id"]}), 90), ROWS)
    (folder / "broken.csv").write_text('name,price\none,1\n"two,2\n')
    stored = persist(lambda: system.client.upload(folder / "broken.csv"))
    job = ended(system.client, submit(system.client, "LoadProducts", {"uploadId": stored["id"]}))
    assert (job.state, job.total, job.loaded) == (State.FAILED, None, 0)
    assert system.rows("SELECT count(*) FROM products.products WHERE job_id = %s", job.id) == [(0,)]


def surveying(system: System, folder: Path) -> None:
    """The blob of a plan, made while the upload comes: whoever is killed, one is used and none stays."""
    packed = folder / "packed.csv.gz"
    packed.write_bytes(gzip.compress(write(folder / "packed.csv", ROWS).read_bytes()))
    stored = persist(lambda: system.client.upload(packed))
    expect_exact(system, ended(system.client, submit(system.client, "LoadProducts", {"uploadId": stored["id"]}), 90), ROWS)


def pausing(system: System, folder: Path) -> None:
    job_id = load(system, folder / "slow.csv", 2 * ROWS, "Slow")
    assert change(system.client, "jobPause", job_id) == "PAUSED"
    assert change(system.client, "jobResume", job_id) != "PAUSED"
    expect_exact(system, ended(system.client, job_id), 2 * ROWS)


def publishing(system: System, folder: Path) -> None:
    """Whole files, and rows by their keys: each becomes visible once, and no staging table stays."""
    limits = {"maxErrors": ROWS}
    # Names that no other job has loaded: UPDATE must know which product is meant.
    stored = persist(lambda: system.client.upload(write(folder / "whole.csv", ROWS, "Whole")))
    for options in ({"atomicity": "ALL_OR_NOTHING"}, {"mode": "UPDATE", "keys": ["name"]}, {"atomicity": "ALL_OR_NOTHING"}):
        job = ended(
            system.client, submit(system.client, "LoadProducts", {"uploadId": stored["id"]}, None, {**options, **limits})
        )
        assert job.state is State.PARTIAL, job
        assert job.total == job.loaded + job.rejected == ROWS
        if "mode" not in options:
            expect_exact(system, job, ROWS, "Whole")
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'products' AND tablename LIKE 'staged%%'"
    assert system.rows(tables) == [(0,)]


def cancelling(system: System, folder: Path) -> None:
    job_id = load(system, folder / "slow.csv", 4 * ROWS, "Slow")
    until(lambda: persist(lambda: system.client.job(job_id)).loaded > 0, what="the first batch")
    assert change(system.client, "jobCancel", job_id) in ("CANCELING", "CANCELED")
    job = ended(system.client, job_id)
    assert job.state is State.CANCELED
    stored = system.loaded(job)
    assert 0 < len(stored) == job.loaded
    assert job.loaded + job.rejected + job.unprocessed == job.total == 4 * ROWS
    assert len({row_no for row_no, *_ in stored}) == job.loaded


def failing(system: System, folder: Path) -> None:
    path = write(folder / "breaks.csv", ROWS)
    path.write_text(path.read_text().replace("Product 301,", "breaks,"))
    stored = persist(lambda: system.client.upload(path))
    job = ended(system.client, submit(system.client, "Broken", {"uploadId": stored["id"]}))
    assert job.state is State.FAILED
    assert "RuntimeError in the step enrich" in (job.error or "")
    assert job.loaded + job.rejected + job.unprocessed == job.total == ROWS
    assert len(system.loaded(job)) == job.loaded


def expiring(system: System, folder: Path) -> None:
    """A job with rejects, an upload that no job uses and a half one: all go, and what is known of the job stays."""
    half = {"tus-resumable": "1.0.0", "upload-length": "10"}
    persist(lambda: system.client.send("POST", "/uploads/tus/", headers=half))
    job_id = load(system, folder / "products.csv", ROWS)
    persist(lambda: system.client.upload(write(folder / "unused.csv", 10)))
    expect_exact(system, ended(system.client, job_id), ROWS)
    kept = """SELECT (SELECT count(*) FROM jobs.uploads) + (SELECT count(*) FROM jobs.staged)
                   + (SELECT count(*) FROM jobs.jobs WHERE expired_at IS NULL)
                   + (SELECT count(*) FROM jobs.receipts WHERE rejects <> '')
                   + (SELECT count(*) FROM products.ledger WHERE rejects <> '')"""
    until(lambda: system.rows(kept) == [(0,)], 60, "the end of all that expires")
    until(lambda: not blobs(system), what="the end of their blobs")
    job = persist(lambda: system.client.job(job_id))
    assert (job.state, job.total, job.rejected) == (State.PARTIAL, ROWS, ROWS // EVERY)
    assert len(system.loaded(job)) == job.loaded
    with pytest.raises(NotFound):
        rejects(system.client, job_id)


@dataclass(frozen=True)
class Group:
    """Points that are armed in one system, and what passes them."""

    passes: Callable[[System, Path], None]
    points: Sequence[str]
    #: Points that fail, so that others are reached.
    errors: Sequence[str] = ()
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def armed(self) -> str:
        return ",".join([f"{name}:1:kill" for name in self.points] + [f"{name}:1:error" for name in self.errors])


GROUPS: Mapping[str, Group] = {
    # The first: where nothing else was dispatched, the points meet the batch.
    "dispatching": Group(
        dispatching,
        (
            *("dispatch.before_commit", "dispatch.after_commit", "sweep.before_commit", "sweep.after_commit"),
            *("transport.after_publish", "dispatch.after_publish"),
        ),
    ),
    "blobs": Group(
        uploads,
        ("upload.before_blob", "blob.after_piece", "blob.before_sync", "blob.before_rename", "blob.after_rename"),
        environment={"JOBBER_SURVEYS_AT_ONCE": "2"},
    ),
    "staging": Group(
        staging,
        (
            *("stage.after_piece", "stage.before_commit", "stage.after_commit"),
            *("stage.before_complete", "stage.after_complete"),
        ),
    ),
    "submissions": Group(
        submissions,
        (
            *("upload.after_blob", "upload.before_commit", "upload.after_commit"),
            *("submit.after_blob", "submit.before_commit", "submit.after_commit"),
        ),
        environment={"JOBBER_SURVEYS_AT_ONCE": "2"},
    ),
    "surveying": Group(surveying, ("survey.after_blob",), environment={"JOBBER_SURVEYS_AT_ONCE": "2"}),
    "planning": Group(
        planning,
        (
            *("plan.before_claim", "claim_plan.before_commit", "claim_plan.after_commit", "plan.after_claim"),
            "plan.after_blob",
            *("plan.before_record", "record_plan.before_commit", "record_plan.after_commit", "plan.after_record"),
            *("record_fault.before_commit", "record_fault.after_commit", "plan.after_settle"),
        ),
        options=("--executors", "2"),
    ),
    "loading": Group(
        loads,
        (
            *("transport.before_publish", "load.before_claim", "load.after_claim", "load.before_write"),
            *("products.before_ledger", "products.after_ledger", "products.in_copy", "products.before_commit"),
            *("products.after_commit", "load.after_write", "load.after_acknowledge", "load.after_settle"),
        ),
        options=("--executors", "2"),
    ),
    "acknowledging": Group(
        loads,
        (
            *("claim.before_commit", "claim.after_commit", "acknowledge.before_commit", "acknowledge.after_commit"),
            *("transport.before_acknowledge", "transport.after_acknowledge", "load.after_hand_back", "dispatch.unpublished"),
        ),
        errors=("load.before_claim", "transport.before_publish"),
    ),
    "pausing": Group(pausing, ("pause.before_commit", "pause.after_commit", "resume.before_commit", "resume.after_commit")),
    "cancelling": Group(
        cancelling,
        (
            *("cancel.before_commit", "cancel.after_commit", "products.before_close", "products.after_close"),
            *("close.before_commit", "close.after_commit"),
        ),
    ),
    "expiring": Group(
        expiring,
        (
            *("expire.before_commit", "expire.after_commit", "expire_uploads.before_commit", "expire_uploads.after_commit"),
            *(
                "expire_staged.before_commit",
                "stray.before_delete",
                "stray.after_delete",
                "products.before_forget",
                "products.after_forget",
            ),
        ),
        environment={"JOBBER_RETENTION_DAYS": f"{10 * SECONDS:.8f}", "JOBBER_STAGED_HOURS": f"{240 * SECONDS:.8f}"},
    ),
    "publishing": Group(
        publishing,
        (
            *("products.before_publish", "products.after_publish"),
            *("publish.after_answer", "publish.before_commit", "publish.after_commit"),
        ),
    ),
    "failing": Group(
        failing,
        (
            *("migrate.before_commit", "migrate.after_commit"),
            *("dead_letter.before_commit", "dead_letter.after_commit", "fail.before_commit", "fail.after_commit"),
        ),
    ),
}


def test_every_point_is_armed_by_some_group() -> None:
    assert sorted(point for group in GROUPS.values() for point in group.points) == sorted(faults.POINTS)


@contextmanager
def started(
    folder: Path, broker: str, environment: Mapping[str, str], options: Sequence[str] = ()
) -> Iterator[tuple[System, Callable[[], list[str]]]]:
    """A system with armed points, and a question for those that fired."""
    once = folder / "fired"
    once.mkdir()
    armed = {**SMALL, **environment, "JOBBER_FAIL_ONCE": str(once)}
    system = running.start(folder / "data", "--broker", broker, *options, environment=armed)
    try:
        yield system, lambda: sorted(path.name.removesuffix(".1") for path in once.iterdir())
    finally:
        code = system.stop()
    assert code == 0, system.said()


#: On Pulsar those that have points of the transport.
CASES = [
    *(pytest.param("embedded", name, marks=pytest.mark.campaign) for name in GROUPS),
    *(pytest.param("pulsar", name, marks=pytest.mark.pulsar) for name in ("dispatching", "acknowledging")),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("broker", "name"), CASES)
def test_killed_at_every_point(tmp_path: Path, broker: str, name: str) -> None:
    group = GROUPS[name]
    environment = {**group.environment, "JOBBER_FAIL": group.armed}
    with started(tmp_path, broker, environment, group.options) as (system, fired):
        group.passes(system, tmp_path)
        expect_nothing_left(system)
        assert fired() == sorted((*group.points, *group.errors))


#: What expires has a system of its own: nothing else lasts there. So has what is surveyed: others want their planner.
ALONE = ("expiring", "surveying")
TOGETHER = {"all": [name for name in GROUPS if name not in ALONE], **{name: [name] for name in ALONE}}


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", TOGETHER)
def test_an_error_at_every_point_is_survived_too(tmp_path: Path, names: str) -> None:
    groups = [GROUPS[name] for name in TOGETHER[names]]
    points = [point for group in groups for point in group.points]
    environment = {"JOBBER_FAIL": ",".join(f"{point}:1:error" for point in points)}
    for group in groups:
        environment |= group.environment
    if names == "all":
        environment["JOBBER_SURVEYS_AT_ONCE"] = "0"
    with started(tmp_path, "embedded", environment) as (system, fired):
        for group in groups:
            group.passes(system, tmp_path)
        expect_nothing_left(system)
        assert fired() == sorted(points)
