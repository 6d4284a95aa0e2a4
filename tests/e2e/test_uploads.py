"""Large files on their way: killed here and there, they arrive once and whole."""

import gzip
import os
import signal
import subprocess
from pathlib import Path

from tests.support.campaign import ended, expect_exact, submit, write
from tests.support.system import System, command, surroundings, until

#: So large that there is a middle to be killed in: 96 MB.
ROWS, WIDTH = 1500, 64_000


def test_a_killed_load_goes_on_and_a_killed_service_is_ridden_out(system: System, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("name,price,description\n")
        for row in range(ROWS):
            file.write(f"Product {row},{row}.25,{'x' * WIDTH}\n")
    words = command("load", str(path), "--job", "LoadProducts", "--dry-run", "--data-dir", str(system.folder))
    environment = {**surroundings(), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def received() -> int:
        [[count]] = system.rows("SELECT coalesce(max(received), 0) FROM jobs.staged WHERE file_name = 'large.csv'")
        return int(count)

    def load() -> "subprocess.Popen[str]":
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with load() as first:
        until(lambda: received() > 0)
        os.kill(first.pid, signal.SIGKILL)
    there = received()
    assert 0 < there < path.stat().st_size
    with load() as second:
        until(lambda: received() != there)
        system.kill("jobs")
        said, _ = second.communicate(timeout=90)
    assert second.returncode == 0, said
    assert "It went on at" in said
    assert f"SUCCEEDED   {ROWS:,} read" in said
    assert system.rows("SELECT bytes FROM jobs.uploads WHERE file_name = 'large.csv'") == [(path.stat().st_size,)]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_script_is_told_the_command_that_would_load_its_file(system: System, tmp_path: Path) -> None:
    path = tmp_path / "semicolons.csv"
    path.write_text("name;price\nx;1.25\n")
    environment = {**surroundings(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["load", str(path), "--job", "LoadProducts", "--data-dir", str(system.folder)]

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command(*words), env=environment, capture_output=True, text=True, timeout=60)

    failed = run(*words)
    assert failed.returncode == 1
    [line] = [line.strip() for line in failed.stdout.splitlines() if line.strip().startswith("jobber load")]
    assert line.endswith(f"--delimiter ';' --data-dir {system.folder}")
    loaded = run(*words, "--delimiter", ";")
    assert (loaded.returncode, "uploaded before" in loaded.stdout) == (0, True), loaded.stdout
    assert system.rows("SELECT count(*) FROM jobs.uploads WHERE file_name = 'semicolons.csv'") == [(1,)]


def test_a_job_of_a_compressed_upload_goes_straight_to_its_batches(system: System, tmp_path: Path) -> None:
    """It was packed while it came: nobody plans it any more."""
    rows, path = 120_000, tmp_path / "surveyed.csv.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "surveyed.csv", rows, "Surveyed").read_bytes(), 1))
    upload = system.client.upload(path)["id"]
    job = ended(system.client, submit(system.client, "LoadProducts", {"uploadId": upload}))
    expect_exact(system, job, rows, "Surveyed")
    seen = """SELECT j.plan_no, j.batches, j.plan_blob = u.plan_blob FROM jobs.jobs j JOIN jobs.uploads u ON u.id = j.upload_id
               WHERE j.id = %s"""
    assert system.rows(seen, job.id) == [(0, 2, True)]
