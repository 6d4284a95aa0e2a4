"""Downloads of very many rejects: what the jobs service holds of them at once, and how it answers others meanwhile."""

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.memory import Peaks
from jobber.errors import Transient
from tests.support.system import System, ended

#: Seconds within which 99 of 100 questions are answered while somebody downloads.
P99 = 0.25
#: Seconds between two questions.
EVERY = 0.01
LOOK = "query ($id: ID!) { job(id: $id) { state errors(first: 20) { edges { node { row code message } } } } }"
SHA256 = "query ($id: ID!, $form: FileFormat) { job(id: $id) { results(outcome: REJECTED, format: $form) { sha256 } } }"
RECORDS: Mapping[str, str] = {
    "csv": "P{row},Home,no price,1,4.5,A product that has no price of its own\n",
    "ndjson": '{{"name":"P{row}","category":"Home","price":"no price","stock":1,"description":"one without a price"}}\n',
}
HEAD = {"csv": "name,category,price,stock,rating,description\n", "ndjson": ""}


class Counted:
    """Takes bytes and keeps their number."""

    def __init__(self) -> None:
        self.bytes = 0
        self.lines = 0

    def write(self, data: bytes) -> int:
        """Count."""
        self.bytes += len(data)
        self.lines += data.count(b"\n")
        return len(data)


def downloads(system: System, folder: Path, kind: str, rows: int, seconds: float) -> Iterator[dict[str, Any]]:
    """A job that rejects all its rows, and a line of a table for each form in which they are downloaded."""
    path = folder / f"rejects.{kind}"
    with path.open("w") as sink:
        sink.write(HEAD[kind])
        sink.writelines(RECORDS[kind].format(row=row) for row in range(rows))
    job = ended(system.client, system.client.execute("LoadProducts", {"fileName": system.client.upload(path)["id"]}), seconds)
    path.unlink()
    if job.rejected != rows:
        raise SystemExit(f"{rows:,} rejects of {kind}: {job}")
    for form in ("csv", "ndjson"):
        into, took = Counted(), list[float]()
        done = threading.Event()
        asking = threading.Thread(target=_ask, args=(system, job.id, done, took))
        with Peaks(system) as peaks:
            asking.start()
            began = time.perf_counter()
            system.client.download(f"/jobs/{job.id}/rejects.{form}", into)  # type: ignore[arg-type]
            wall = time.perf_counter() - began
            done.set()
            asking.join()
        if into.lines - (form == "csv") != rows:
            raise SystemExit(f"{into.lines:,} lines of {rows:,} rejects")
        began = time.perf_counter()
        _digest(system, job.id, form)
        yield {
            "rejects of": kind,
            "rows": rows,
            "as": form,
            "MB": into.bytes // 10**6,
            "s": round(wall, 1),
            "sha256 s": round(time.perf_counter() - began, 1),
            "jobs MiB": peaks.together["jobs"] >> 20,
            "asked": len(took),
            "p99 ms": round(sorted(took)[int(len(took) * 0.99)] * 1000),
        }


def _ask(system: System, id: str, done: threading.Event, took: list[float]) -> None:
    while not (done.wait(EVERY) and took):
        began = time.perf_counter()
        system.client.ask(LOOK, {"id": id})
        took.append(time.perf_counter() - began)


def _digest(system: System, id: str, form: str) -> None:
    """Ask until it is told: it takes as long as the download does, and who asks again does not begin anew."""
    while True:
        try:
            system.client.ask(SHA256, {"id": id, "form": form.upper()})
        except Transient:
            continue
        return
