"""`jobber load`, `status` and `cancel`: a job from outside."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from jobber.cli.client import Client, Job
from jobber.cli.exits import Exit
from jobber.cli.progress import bar, console, cut, table
from jobber.model import State

#: How many reasons a summary shows.
REASONS = 6


def run(client: Client, file: Path, name: str, arguments: str, options: Sequence[str]) -> Exit:
    """Upload the file, run the job on it, follow it to its end."""
    out = console()
    try:
        further = json.loads(arguments)
    except ValueError as fault:
        raise click.UsageError(f"--args is not JSON: {fault}") from None
    if not isinstance(further, dict):
        raise click.UsageError("--args must be a JSON object")
    stored = upload(out, client, file)
    job = client.execute(name, {**further, "fileName": stored["id"]}, _options(options))
    out.print(f"  job {job.id}")
    try:
        job = follow(out, client, job)
    except KeyboardInterrupt:
        out.print(f"\n  The job goes on. Look at it with `jobber status {job.id}`, end it with `jobber cancel {job.id}`.")
        raise
    tell(out, client, job)
    return exit_of(job)


def upload(out: Console, client: Client, file: Path) -> dict[str, Any]:
    """Store the file, with a bar."""
    size, sent = file.stat().st_size, 0
    with bar(out, "upload", "MB") as show:

        def count(more: int) -> None:
            nonlocal sent
            sent += more
            show(min(sent, size), size)

        return client.upload(file, count)


def follow(out: Console, client: Client, job: Job) -> Job:
    """Show the job's progress until it has ended."""
    with bar(out, job.name, "rows") as show:
        for seen in client.follow(job.id):
            note = "" if seen.state.terminal else seen.state.value.lower()
            show(seen.done, seen.total, f"{seen.rejected:,} rejected" if seen.rejected else note)
    return seen


def tell(out: Console, client: Client, job: Job) -> None:
    """What became of the job, and why records were rejected."""
    colour = {State.SUCCEEDED: "green", State.PARTIAL: "yellow"}.get(job.state, "red")
    numbers = [f"{job.total or 0:,} read", f"{job.loaded:,} loaded", f"{job.rejected:,} rejected"]
    if job.unprocessed:
        numbers.append(f"{job.unprocessed:,} not processed")
    out.print(Text.assemble("  ", (job.state.value, f"bold {colour}"), "   ", " · ".join(numbers)))
    if job.error:
        out.print(f"  {job.error}", markup=False)
    for warning in job.warnings:
        out.print(f"  note: {warning}", markup=False)
    if job.rejected:
        reasons(out, client, job)


def reasons(out: Console, client: Client, job: Job) -> None:
    """Why records were rejected, the most frequent reasons first, each with an example."""
    groups = client.reasons(job.id)
    shown = table(("faults", "right"), ("column", "left"), ("code", "left"), ("for example", "left"))
    for group in groups[:REASONS]:
        sample = group["sample"]
        example = f"row {int(sample['row']):,}: {sample['message']}"
        count, column = f"{int(group['count']):,}", group["column"] or ""
        shown.add_row("", count, column, group["code"], Text(cut(example, max(24, out.width - 45))))
    out.print(shown)
    more = len(groups) - REASONS
    if more > 0:
        out.print(f"  … and {more} further {'reason' if more == 1 else 'reasons'}")


def show(client: Client, id: str) -> Exit:
    """Say where the job is."""
    job = client.job(id)
    out = console()
    out.print(f"  {job.name} {job.id}")
    tell(out, client, job)
    return exit_of(job)


def cancel(client: Client, id: str) -> Exit:
    """Cancel the job; done means that no further record of it appears."""
    client.cancel(id)
    *_, job = client.follow(id)
    tell(console(), client, job)
    return Exit.DONE if job.state is State.CANCELED else Exit.FAILED


def exit_of(job: Job) -> Exit:
    """The exit code that tells what became of a job; a running one is no failure."""
    if job.state is State.PARTIAL:
        return Exit.REJECTS
    return Exit.FAILED if job.state in (State.FAILED, State.CANCELED) else Exit.DONE


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` pairs; a value is JSON where it can be read as such, else text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--option {pair!r} is not NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
