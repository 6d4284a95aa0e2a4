"""`jobber demo`: the whole of Jobber in a temporary folder, on 100,000 products or on a file of the user's."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import jobber
from jobber.cli import load
from jobber.cli.client import Client, Job
from jobber.cli.exits import Exit
from jobber.cli.progress import console, spinner
from jobber.cli.samples import show_samples
from jobber.errors import Unavailable
from jobber.local import child
from jobber.model import State

#: Seconds in which `up` stops after SIGTERM.
STOP = 90.0


def run(file: Path | None, *, keep: bool, broker: str) -> Exit:
    """Show it all; FAILED only when the job failed: the broken rows of the demo are on purpose."""
    # What was started is stopped however the demo is told to end.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    out = console()
    out.print()
    source = file.resolve() if file else _products(out)
    with _system(out, broker, keep=keep) as (home, running):
        client = Client(running["jobs"], running["auth"])
        client.login(running["admin"]["email"], running["admin"]["password"])
        out.print(f"  logged in as {running['admin']['email']}")
        stored = load.upload(out, client, source)
        began = time.monotonic()
        job = client.execute("LoadProducts", {"fileName": stored["id"]})
        job = load.follow(out, client, job)
        _summary(out, job, time.monotonic() - began)
        for warning in job.warnings:
            out.print(f"  note: {warning}", markup=False)
        if job.rejected:
            out.print()
            load.reasons(out, client, job)
        if job.loaded:
            out.print()
            show_samples(out, source, running["grpc"]["products"], running["serviceToken"], job.id)
        client.close()
        if keep:
            _how_to_reach(out, home, running)
    if not keep:
        out.print("\n  Everything is stopped, nothing is left over.\n")
    return Exit.FAILED if job.state in (State.FAILED, State.CANCELED) else Exit.DONE


def _products(out: Console) -> Path:
    """The demo's file, made on first use beside its generator, or in the user's cache where that folder is not ours."""
    root = Path(jobber.__file__).parent
    places = (root.parent / "examples", root / "_rooms" / "examples")
    script = next(path / "generate_products.py" for path in places if (path / "generate_products.py").exists())
    folder = script.parent
    if not os.access(folder, os.W_OK):
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jobber"
        folder.mkdir(parents=True, exist_ok=True)
    products = folder / "products.csv"
    if not products.exists() or products.stat().st_mtime < script.stat().st_mtime:
        with spinner(out, "making 100,000 products (once) …"):
            runpy.run_path(str(script))["write"](products)
    return products


@contextmanager
def _system(out: Console, broker: str, *, keep: bool) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A running `jobber up` on a fresh folder; afterwards neither is left, unless it is kept."""
    home = Path(tempfile.mkdtemp(prefix="jobber-demo-")).resolve()
    log = home / "up.log"
    # Left to itself when kept; else it must not outlive us, even if we are killed.
    environment = dict(os.environ) if keep else {**os.environ, child.SUPERVISOR: str(os.getpid())}
    parts = "PostgreSQL, Pulsar and four services" if broker == "pulsar" else "PostgreSQL and four services"
    with spinner(out, f"starting {parts} …"), log.open("wb") as sink:
        began = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jobber.cli", "up", "--json", "--ports", "auto"),
                *("--data-dir", str(home), "--broker", broker),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=environment,
            start_new_session=True,
        )
        assert process.stdout
        line = process.stdout.readline()
    kept = False
    try:
        if not line:
            process.wait()
            raise Unavailable("Jobber did not start:\n" + log.read_text(errors="replace").strip())
        out.print(f"  started {parts} in {time.monotonic() - began:.1f} s")
        yield home, json.loads(line)
        kept = keep
    finally:
        if not kept:
            with spinner(out, "stopping …"):
                _stop(process)
            shutil.rmtree(home, ignore_errors=True)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _summary(out: Console, job: Job, seconds: float) -> None:
    colour = "red" if job.state in (State.FAILED, State.CANCELED) else "green"
    out.print()
    out.print(
        Text.assemble(
            "  ",
            (f"{job.total or 0:,}", "bold"),
            " read   ",
            (f"{job.loaded:,}", f"bold {colour}"),
            " loaded   ",
            (f"{job.rejected:,}", "bold yellow" if job.rejected else "bold"),
            f" rejected   in {seconds:.1f} s, {(job.total or 0) / seconds:,.0f} rows/s",
        )
    )
    if job.error:
        out.print(Text.assemble("  ", (job.state.value, "bold red"), f"   {job.error}"))


def _how_to_reach(out: Console, home: Path, running: dict[str, Any]) -> None:
    """What a person needs to go on with a system that was kept."""
    command = os.environ.get("JOBBER_COMMAND", "jobber")
    out.print("\n  [bold]It goes on running, apart from this terminal.[/]\n")
    rows = (
        ("Console", running["console"]),
        ("Jobs", running["jobs"]),
        ("Login", running["auth"]),
        ("Admin", f"{running['admin']['email']}   {running['admin']['password']}"),
        ("Products", f"gRPC {running['grpc']['products']}"),
        ("Database", running["database"]),
        ("Data", f"{home} · logs in logs/"),
    )
    for label, value in rows:
        out.print(Text.assemble("  ", (f"{label:<10}", "bold"), value), soft_wrap=True)
    out.print(f"\n  Stop it:  {command} down --data-dir {home}\n", soft_wrap=True)
