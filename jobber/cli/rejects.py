"""`jobber rejects` and `jobber replay`: what was wrong, out and in again."""

import sys
from pathlib import Path
from typing import Literal

from jobber.cli import load
from jobber.cli.client import Client
from jobber.cli.exits import Exit
from jobber.cli.progress import console
from jobber.cli.tus import Upload
from jobber.model import State


def download(client: Client, id: str, output: Path | None, form: str | None) -> None:
    """Stream the rejects into the file, which appears once it is whole, or to standard output."""
    by_name: Literal["csv", "ndjson"] = "ndjson" if output and output.suffix in (".ndjson", ".jsonl") else "csv"
    path = f"/jobs/{id}/rejects.{form or by_name}"
    if output is None:
        client.download(path, sys.stdout.buffer)
        return
    job = client.job(id)
    partial = output.with_name(f".{output.name}.part")
    try:
        with partial.open("wb") as into:
            client.download(path, into)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    out = console()
    out.print(f"  {job.rejected:,} rejected {'record' if job.rejected == 1 else 'records'} in {output}", markup=False)
    if job.rejected:
        out.print(f"  Correct them there, then: jobber replay {id} {output}", markup=False)


def replay(client: Client, id: str, file: Path | None) -> Exit:
    """Upload the corrected file, run the child, follow it to its end."""
    out = console()
    sent = Upload(client, file) if file else None
    job = client.replay(id, load.send(out, sent) if sent else None)
    out.print(f"  job {job.id}, after {id}", markup=False)
    job = load.follow(out, client, job)
    load.tell(out, client, job)
    if sent and job.state is not State.FAILED:
        sent.forget()
    return load.exit_of(job)
