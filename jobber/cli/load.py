"""`jobber load`, `status` and `cancel`: a job from outside."""

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from jobber.cli.client import Client, Job
from jobber.cli.exits import Exit
from jobber.cli.progress import bar, console, cut, table
from jobber.cli.remedy import command, flags, joined, remedy
from jobber.cli.tus import Upload
from jobber.model import State

#: How many reasons a summary shows.
REASONS = 6


def run(client: Client, file: Path, name: str, arguments: str, options: Mapping[str, Any], where: Sequence[str] = ()) -> Exit:
    """Upload the file, run the job on it, follow it to its end. What was interrupted goes on where it stopped.

    When the job says which option would load the file, a person is asked, and a script is told the command, with `where`.
    """
    out = console()
    try:
        further = json.loads(arguments)
    except ValueError as fault:
        raise click.UsageError(f"--args is not JSON: {fault}") from None
    if not isinstance(further, dict):
        raise click.UsageError("--args must be a JSON object")
    sent = Upload(client, file)
    upload_id = send(out, sent)
    given = dict(options)
    while True:
        what = json.dumps([name, further, given], sort_keys=True).encode()
        key = f"load-{upload_id}-{sent.runs}-{hashlib.sha256(what).hexdigest()[:16]}"
        job = client.execute(name, {**further, "fileName": upload_id}, given, key=key)
        out.print(Text.assemble("  job ", (job.id, "cyan")))
        try:
            job = follow(out, client, job)
        except KeyboardInterrupt:
            out.print(f"\n  The job goes on. Look at it with `jobber status {job.id}`, end it with `jobber cancel {job.id}`.")
            raise
        tell(out, client, job)
        if job.state is not State.FAILED:
            sent.forget()
            return exit_of(job)
        sent.again()
        cure = next(filter(None, map(remedy, (job.error, *job.warnings))), {})
        wanted = joined(given, cure)
        if not cure or wanted == given:
            return exit_of(job)
        words = ["load", str(file), "--job", name, *(["--args", arguments] if further else []), *flags(wanted), *where]
        shown = shlex.join(flags(cure))
        if not (sys.stdin.isatty() and out.is_terminal):
            out.print("\n  This would load it (the file is not uploaded again):", markup=False)
            out.print(f"\n    {command(words)}\n", markup=False)
            return exit_of(job)
        out.print()
        if not click.confirm(f"  Load it with {shown}?", default=True):
            return exit_of(job)
        given = wanted


def send(out: Console, upload: Upload) -> str:
    """Upload the file, with a bar, from where it stopped; answer the upload's id."""
    with bar(out, "upload", "MB") as show:
        upload_id = upload.send(lambda done, note: show(done, upload.size, note))
    if upload.resumed_at and upload.resumed_at == upload.size:
        out.print("  The file had been uploaded before.")
    elif upload.resumed_at:
        out.print(f"  It went on at {upload.resumed_at / 1e6:,.1f} MB, where it had stopped.")
    return upload_id


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
        # Not folded in a pipe; in a terminal its further lines stand below the first one.
        out.print(Padding(Text(job.error), (0, 0, 0, 2)) if out.is_terminal else Text(f"  {job.error}"))
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


def options_of(pairs: Sequence[str], mapping: Sequence[str], keys: str | None, **named: Any) -> dict[str, Any]:
    """LoadOptions, of `NAME=VALUE` pairs (a value is JSON where it can be read as such, else text) and the options by name."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--option {pair!r} is not NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    for pair in mapping:
        column, equals, theirs = pair.partition("=")
        if not (equals and column and theirs):
            raise click.UsageError(f"--mapping {pair!r} is not CONTRACT_COLUMN=INPUT_COLUMN")
        options.setdefault("mapping", {})[column] = theirs
    if keys:
        options["keys"] = [key.strip() for key in keys.split(",") if key.strip()]
    options.update({name: value for name, value in named.items() if value is not None and value is not False})
    if options.get("delimiter") in ("\\t", "tab"):
        options["delimiter"] = "\t"
    return options
