"""Many of each, as processes on a real Pulsar with partitioned topics: every row once, and the work evenly shared."""

import re
from pathlib import Path

import httpx
import pytest

from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.system import System, ended

EXECUTORS, ROWS, BATCHES, SMALL = 4, 240_000, 120, 200
PARTITIONS = 4


def batches_of(url: str) -> int:
    """How many batches the executor behind the address brought to their end."""
    told = httpx.get(f"{url}/metrics", trust_env=False).text
    found = re.search(r'^jobber_executor_batches_total\{outcome="receipt"\} (\S+)$', told, re.MULTILINE)
    return int(float(found[1])) if found else 0


def partitions(system: System) -> dict[str, int]:
    """Partitions by topic, as the broker's admin API tells."""
    (_, admin) = (system.folder / "pulsar" / "ports").read_text().split()
    listed = httpx.get(f"http://127.0.0.1:{admin}/admin/v2/persistent/public/default/partitioned", trust_env=False).json()
    return {
        topic: httpx.get(f"http://127.0.0.1:{admin}/admin/v2/{topic.replace('://', '/')}/partitions", trust_env=False).json()[
            "partitions"
        ]
        for topic in listed
    }


@pytest.mark.pulsar
@pytest.mark.timeout(600)
def test_they_share_the_work_and_every_row_is_loaded_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("many")
    environment = {"JOBBER_PULSAR_PARTITIONS": str(PARTITIONS), "JOBBER_BATCH_ROWS": str(ROWS // BATCHES)}
    replicas = ("--executors", str(EXECUTORS), "--jobs", "3", "--products", "2", "--auth", "2")
    system = running.start(folder / "data", "--broker", "pulsar", *replicas, environment=environment)
    try:
        assert [len(system.pids(role)) for role in ("executor", "jobs", "products", "auth")] == [EXECUTORS, 3, 2, 2]
        stored = system.client.upload(write_csv(folder / "many.csv", ROWS, broken=False))
        large = [system.client.execute("LoadProducts", {"fileName": stored["id"]}) for _ in range(2)]
        small = [system.client.execute("LoadProducts", [{"name": "small", "price": 1}]) for _ in range(SMALL)]
        for job, rows in [*((job, ROWS) for job in large), *((job, 1) for job in small)]:
            assert ended(system.client, job, 300).loaded == rows
        counted = system.rows("SELECT count(*), count(DISTINCT (job_id, row_no)) FROM products.products")
        assert counted == [(2 * ROWS + SMALL, 2 * ROWS + SMALL)]

        made = partitions(system)
        used = {topic: count for topic, count in made.items() if "/jobber.LoadProducts." in topic}
        assert len(used) == 3, made
        assert set(used.values()) == {PARTITIONS}

        shares = [batches_of(url) for url in system.state["http"]["executor"]]
        fair = sum(shares) / EXECUTORS
        print(f"batches by executor: {shares}")
        assert sum(shares) >= 2 * BATCHES + SMALL
        # Each takes what it has room for: none idles, and none does the work of two.
        assert min(shares) >= 0.5 * fair, shares
        assert max(shares) <= 1.7 * fair, shares
    finally:
        code = system.stop()
    assert code == 0
