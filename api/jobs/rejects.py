"""Rejects and results as people read them: pages, groups, and downloads that are streamed block by block."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from api.jobs import render
from api.jobs.store import Store
from jobber.errors import InvalidState
from jobber.model import Format, Layout

if TYPE_CHECKING:  # Polars is imported only when there is something to read.
    from operators.rejects import Count

#: Downloads whose digests are remembered.
DIGESTS = 1_000
#: Blocks read from the database at once: bounds memory, whatever the number of rejects.
BLOCKS = 8
#: What is downloaded: of which job, what of it, and as what.
Download = tuple[str, Literal["rejects", "results"], Format]


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule of one record."""

    row: int
    column: str | None
    code: str
    message: str
    #: The record as it stood in the input.
    raw: str
    #: Place in the job's rejects: batch and index within its block.
    batch_no: int
    index: int


@dataclass(frozen=True, slots=True)
class Group:
    """How often a rule was broken."""

    code: str
    column: str | None
    count: int
    sample: Fault


class Rejects:
    """Reads the blocks of a job's receipts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Digests of downloads that do not change any more, the one asked for last at the end.
        self._digests: dict[Download, bytes] = {}
        self._making: dict[Download, asyncio.Task[bytes]] = {}

    async def page(self, job_id: str, first: int, after: tuple[int, int] | None) -> tuple[list[Fault], bool]:
        """Up to `first` faults from behind `after`, by row; and whether there are more. Only blocks that have some are read."""
        batch_no, index = after if after else (0, -1)
        wanted: list[int] = []
        there = 0
        # Each block has a fault, but that of `after` may have no further one.
        for number, head in await self._store.heads(job_id, batch_no - 1, first + 2):
            left = sum(count.count for count in _counts(head)) - (index + 1 if number == batch_no else 0)
            if left > 0:
                if there < first:
                    wanted.append(number)
                there += left
        found: list[Fault] = []
        for some in _parts(wanted):
            for number, block in await self._store.blocks_of(job_id, some):
                start = index + 1 if number == batch_no else 0
                found += await asyncio.to_thread(_decoded, number, block, start, first - len(found))
        return found, there > first

    async def count(self, job_id: str) -> int:
        """How many faults the job's rejects have. No block is read."""
        return sum(count.count for _, head in await self._store.heads(job_id, -1, None) for count in _counts(head))

    async def groups(self, job_id: str) -> list[Group]:
        """Faults counted by code and column, most frequent first, each with the first one met; only their blocks are read."""
        counts: Counter[tuple[str, str | None]] = Counter()
        firsts: dict[tuple[str, str | None], int] = {}
        for batch_no, head in await self._store.heads(job_id, -1, None):
            for count in _counts(head):
                counts[count.code, count.column] += count.count
                firsts.setdefault((count.code, count.column), batch_no)
        samples: dict[tuple[str, str | None], Fault] = {}
        for some in _parts(sorted(set(firsts.values()))):
            for batch_no, block in await self._store.blocks_of(job_id, some):
                for sample in await asyncio.to_thread(_firsts, batch_no, block):
                    samples.setdefault((sample.code, sample.column), sample)
        # Without a sample: the rejects have just expired.
        return [Group(*key, count, samples[key]) for key, count in counts.most_common() if key in samples]

    async def download(self, job_id: str, kind: Literal["rejects", "results"], form: Format) -> AsyncIterator[bytes]:
        """The rejects (a line for each rejected record, in the input's own columns) or results, as CSV or NDJSON."""
        raw_layout = await self._store.layout(job_id)
        layout = msgspec.json.decode(raw_layout, type=Layout) if raw_layout else Layout(format=Format.JSON)
        wrote = False
        async for _, block in self._blocks(job_id, kind, -1):
            if kind == "results":
                yield await asyncio.to_thread(render.results, block, form, not wrote)
            else:
                lines = render.rejects(block, layout, form, not wrote)
                while chunk := await asyncio.to_thread(next, lines, b""):
                    yield chunk
            wrote = True
        if not wrote and form is Format.CSV:
            yield render.header(layout) if kind == "rejects" else b"row\n"

    async def sha256(self, job_id: str, kind: Literal["rejects", "results"], form: Format, *, ended: bool) -> str:
        """Of the download as it is now. That of a job that has `ended` is made once, however many ask, and remembered.

        Who does not wait for it and asks again does not begin anew: of a million rejects it takes 5 to 10 s of a core.
        """
        key = (job_id, kind, form)
        if not ended:
            return (await self._digest(key)).hex()
        known = self._digests.pop(key, None)
        if known is None:
            making = self._making.get(key)
            if making is None:
                making = self._making[key] = asyncio.create_task(self._digest(key))
                making.add_done_callback(lambda task: self._made(key, task))
            return (await asyncio.shield(making)).hex()
        self._digests[key] = known
        return known.hex()

    async def _digest(self, key: Download) -> bytes:
        made = hashlib.sha256()
        async for chunk in self.download(*key):
            made.update(chunk)
        return made.digest()

    def _made(self, key: Download, task: "asyncio.Task[bytes]") -> None:
        del self._making[key]
        if not task.cancelled() and task.exception() is None:
            self._digests[key] = task.result()
            if len(self._digests) > DIGESTS:
                del self._digests[next(iter(self._digests))]

    async def whole_texts(self, job_id: str) -> AsyncIterator[list[str]]:
        """The rejected records' raw texts in the order of the input, each once.

        Raises InvalidState at the first one that is not kept as it stood: it was cut, or holds bytes that are no text.
        """
        async for _, block in self._blocks(job_id, "rejects", -1):
            yield await asyncio.to_thread(_whole, block)

    async def _blocks(self, job_id: str, kind: Literal["rejects", "results"], after: int) -> AsyncIterator[tuple[int, bytes]]:
        while True:
            blocks = await self._store.blocks(job_id, kind, after, BLOCKS)
            for number, block in blocks:
                yield number, block
            if len(blocks) < BLOCKS:
                return
            after = blocks[-1][0]


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + BLOCKS] for start in range(0, len(numbers), BLOCKS))


def _counts(head: bytes) -> "list[Count]":
    from operators.rejects import from_head

    return from_head(head)


def _frame(block: bytes) -> Any:
    """Polars is imported only when there is something to read."""
    from operators.rejects import from_block

    return from_block(block)


def _whole(block: bytes) -> list[str]:
    import polars as pl

    from operators.frames import MAX_RAW

    frame = _frame(block)
    lost = frame.filter((pl.col("code") == "ENCODING") | (pl.col("raw").str.len_chars() > MAX_RAW))
    if lost.height:
        raise InvalidState(f"Row {lost['row_no'][0]:,} is not kept as it stood in the input; download, correct and upload it.")
    texts: list[str] = frame.unique("row_no", keep="first", maintain_order=True)["raw"].to_list()
    return texts


def _decoded(batch_no: int, block: bytes, start: int, most: int) -> list[Fault]:
    return _faults(batch_no, _frame(block).with_row_index("index").slice(start, most))


def _firsts(batch_no: int, block: bytes) -> list[Fault]:
    """The first fault of each code and column."""
    from operators.rejects import head_of

    return _faults(batch_no, _frame(block).with_row_index("index")[[count.first for count in _counts(head_of(block))]])


def _faults(batch_no: int, frame: Any) -> list[Fault]:
    rows = frame.select("row_no", "column", "code", "message", "raw", "index").iter_rows()
    return [Fault(row_no, column, code, message, raw, batch_no, index) for row_no, column, code, message, raw, index in rows]
