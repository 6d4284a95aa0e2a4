"""`jobber up` and `jobber down`: what a person sees of them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal

from jobber.cli.exits import Exit
from jobber.errors import InvalidState, Unavailable
from jobber.local.home import Home
from jobber.local.up import Options, Up

#: Seconds until `down` gives up; the services' grace and PostgreSQL's shutdown fit in.
STOP = 90.0


def run(
    *,
    data_dir: Path,
    broker: Literal["embedded", "pulsar"],
    ports: str,
    as_json: bool,
    auth: int,
    jobs: int,
    executors: int,
    products: int,
) -> None:
    """Run until told to stop."""
    began = time.monotonic()
    options = Options(
        folder=data_dir,
        broker=broker,
        automatic_ports=ports == "auto",
        replicas={"auth": auth, "jobs": jobs, "executor": executors, "products": products},
    )

    def ready(system: Up) -> None:
        if as_json:
            print(json.dumps(system.state()), flush=True)
        else:
            _show(system, time.monotonic() - began)

    async def main() -> None:
        await Up(options, _tell).run(ready)

    if not as_json:
        _tell(f"starting on {data_dir} …")
    asyncio.run(main())


def _tell(sentence: str) -> None:
    print(f"jobber up: {sentence}", file=sys.stderr, flush=True)


def _show(system: Up, seconds: float) -> None:
    from rich.console import Console
    from rich.text import Text

    state, home = system.state(), system.home
    grpc = state["grpc"]
    kept = f"kept in {home.admin_password_file}"
    password = Text(kept)
    if not home.password_shown.exists():
        password = Text.assemble((system.admin.password, "bold yellow"), f"   (shown this once; {kept})")
        home.password_shown.touch()
    rows = (
        ("Console", Text(state["console"], style="cyan")),
        ("Jobs", Text(state["jobs"], style="cyan")),
        ("Login", Text(state["auth"], style="cyan")),
        ("gRPC", Text(f"auth {grpc['auth']} · jobs {grpc['jobs']} · products {grpc['products']}")),
        ("Transport", Text("Apache Pulsar, " + state["transport"] if system.uses_pulsar else "PostgreSQL, embedded")),
        ("Data", Text(f"{home.folder} · logs in {home.logs.name}/")),
        ("Admin", Text(state["admin"]["email"])),
        ("Password", password),
    )
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble("\n  ", ("Jobber is ready", "bold green"), f" after {seconds:.1f} s\n"))
    for label, value in rows:
        console.print(Text.assemble("  ", (f"{label:<11}", "bold"), value))
    console.print("\n  Ctrl-C stops everything.\n")


def stop(data_dir: Path) -> None:
    """Stop the `up` of that folder.

    Raises InvalidState when there is none, Unavailable when it does not stop.
    """
    home = Home(data_dir.resolve())
    holder = home.holder()
    if holder is None:
        print(f"No `jobber up` is running on {home.folder}.")
        sys.exit(Exit.NOT_FOUND)
    try:
        os.kill(holder, signal.SIGTERM)
    except PermissionError:
        raise InvalidState(f"`jobber up` on {home.folder} (pid {holder}) belongs to another user") from None
    deadline = time.monotonic() + STOP
    with contextlib.suppress(ProcessLookupError):
        while home.holder() == holder:
            if time.monotonic() > deadline:
                raise Unavailable(f"`jobber up` (pid {holder}) did not stop within {STOP:.0f} s")
            time.sleep(0.05)
    print("Stopped.")
