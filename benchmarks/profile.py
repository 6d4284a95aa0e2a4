"""Where the processes of a running Jobber spend their time: a flame graph each, by py-spy, and what PostgreSQL waits for."""

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from benchmarks.chart import bars
from benchmarks.environments import environment
from tests.support.system import System

PACKAGES = ("py-spy==0.4.3",)
#: Samples a second of each process.
RATE = 200
#: Seconds between two looks at PostgreSQL.
EVERY = 0.01
#: PostgreSQL is no Python: what py-spy cannot see, its own view tells. Sessions that do nothing are left out.
WAITS = """
    SELECT left(split_part(ltrim(query, E' \\n'), ' ', 1), 12), coalesce(wait_event_type || ': ' || wait_event, 'on the CPU')
      FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@contextmanager
def flames(system: System, folder: Path, prefix: str) -> Iterator[list[Path]]:
    """Samples while it is entered; the files, `prefix-role.svg`, are there afterwards.

    Raises SystemExit with py-spy's words when it may not look at other processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spy = environment("profile", PACKAGES).with_name("py-spy")
    files: list[Path] = []
    with ExitStack() as stack:
        for role in ("auth", "jobs", "executor", "products"):
            for number, pid in enumerate(system.pids(role), 1):
                replica = f"-{number}" if len(system.pids(role)) > 1 else ""
                files.append(folder / f"{prefix}-{role}{replica}.svg")
                stack.enter_context(_recorded(spy, pid, files[-1], f"{prefix}: {role}"))
        with _waits(system.state["database"]) as counted:
            yield files
    total = sum(counted.values()) or 1
    shares = {f"{what}, {wait}"[:40]: 100 * count / total for (what, wait), count in counted.most_common(15)}
    files.append(folder / f"{prefix}-postgres.svg")
    files[-1].write_text(bars("PostgreSQL: what its busy sessions are at, % of the looks", shares))


@contextmanager
def _recorded(spy: Path, pid: int, file: Path, title: str) -> Iterator[None]:
    """What was there before goes: a file that is there is a new one."""
    file.unlink(missing_ok=True)
    command = [str(spy), "record", "--pid", str(pid), "--output", str(file), "--rate", str(RATE), "--subprocesses"]
    command += ["--duration", "unlimited"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    # It says so once it is there; what runs before that is not seen.
    said = next((line for line in process.stdout if "Sampling" in line), "")
    try:
        yield
    finally:
        # It writes its file when it is interrupted.
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    if not file.exists():
        hint = "On Linux, who is not root needs kernel.yama.ptrace_scope = 0 for it; on macOS, sudo."
        raise SystemExit(f"py-spy has no flame graph of {title}:\n{said}{rest}\n{hint}")


@contextmanager
def _waits(dsn: str) -> Iterator[Counter[tuple[str, str]]]:
    """How often a session was seen at what."""
    counted: Counter[tuple[str, str]] = Counter()
    done = threading.Event()

    def look() -> None:
        with psycopg.connect(dsn, autocommit=True) as session:
            while not done.wait(EVERY):
                counted.update((what, wait) for what, wait in session.execute(WAITS))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield counted
    finally:
        done.set()
        thread.join()


def profiled(system: System, folder: Path, prefix: str, load: Callable[[], None], rounds: int) -> list[Path]:
    """Loads one after the other, and what was drawn of them."""
    load()
    with flames(system, folder, prefix) as files:
        for _ in range(rounds):
            load()
    return files
