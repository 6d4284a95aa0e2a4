"""What an executor and its isolated process say to each other: msgpack, one message at a time over a socket pair.

executor ── Load, Part … ──► isolated ──fork──► child: decode, check, enrich
         ◄── Ready, Alive … Made | Broke | Died | Unable ──  ◄── its answer, or its death
"""

import msgspec

from jobber.job import Lookups
from jobber.model import InputOptions, Layout, Writing


class Load(msgspec.Struct, tag=True, frozen=True):
    """A batch, of which parts will be asked for."""

    kind: str
    args: bytes
    layout: Layout
    lookups: Lookups
    data: bytes
    first_row: int
    writing: Writing = Writing()


class Part(msgspec.Struct, tag=True, frozen=True):
    """Prepare records `first` to `last` (from 0, `last` not among them) of the batch."""

    first: int
    last: int
    seconds: float


class Raw(msgspec.Struct, tag=True, frozen=True):
    """The raw text of a record, without taking it apart."""

    index: int
    seconds: float


class Scan(msgspec.Struct, tag=True, frozen=True):
    """Plan an input; `seconds` is how long it may take to read the next window."""

    kind: str
    options: InputOptions
    inline: bytes | None
    blobs_url: str
    blob_key: str
    expanded_bytes: int
    seconds: float


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The isolated process has started."""


class Made(msgspec.Struct, tag=True, frozen=True):
    """A part, ready to be written: as pipelines.work.Prepared."""

    rows: int
    rejected: int
    rejects: bytes
    frame: bytes


class Text(msgspec.Struct, tag=True, frozen=True):
    """A raw text."""

    text: str


class Cut(msgspec.Struct, tag=True, frozen=True):
    """A plan (jobber.model.Plan, JSON)."""

    plan: bytes


class Broke(msgspec.Struct, tag=True, frozen=True):
    """The code that was asked raised: it is told from a death."""

    code: str
    message: str


class Died(msgspec.Struct, tag=True, frozen=True):
    """The child began, and ended by itself; or it had to be ended, because its time was over (`late`)."""

    how: str
    late: bool = False


class Unable(msgspec.Struct, tag=True, frozen=True):
    """Nothing began: there are no processes to be had, or the child was gone before. It says nothing about any record."""

    why: str


class Alive(msgspec.Struct, tag=True, frozen=True):
    """The isolated process waits for its child."""


Task = Load | Part | Raw | Scan
Answer = Ready | Made | Text | Cut | Broke | Died | Unable | Alive
_tasks = msgspec.msgpack.Decoder(Task)
_answers = msgspec.msgpack.Decoder(Answer)
encode = msgspec.msgpack.encode


def task_of(data: bytes | bytearray) -> Task:
    """Raises msgspec.MsgspecError for what is none."""
    task: Task = _tasks.decode(data)
    return task


def answer_of(data: bytes | bytearray) -> Answer:
    """Raises msgspec.MsgspecError for what is none."""
    answer: Answer = _answers.decode(data)
    return answer
