"""What the people of a campaign know of their jobs, and what was seen that must not be."""

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Bad:
    """What must be told of a record that is rejected."""

    code: str
    column: str | None
    #: The message, or how it begins.
    message: str
    raw: str


@dataclass
class Known:
    """A job as its submitter knows it."""

    id: str
    name: str
    key: str
    data: Any
    #: Row number -> what must be in the table: name and price, or for Fibonacci the value.
    good: dict[int, tuple[str, str]]
    bad: dict[int, Bad]
    max_errors: int | None = None
    canceled: bool = False
    #: Rows that the table had of it when its cancel had been answered CANCELED.
    rows_at_cancel: int | None = None

    @property
    def total(self) -> int:
        """Records of the input."""
        return len(self.good) + len(self.bad)


@dataclass
class Model:
    """What all people know, and what they saw that must not be."""

    jobs: list[Known] = field(default_factory=list)
    #: Those whose submission was not answered when the campaign ended: they may be there or not.
    unanswered: list[Known] = field(default_factory=list)
    #: Promise -> the first piece of evidence.
    broken: dict[str, str] = field(default_factory=dict)
    #: Submissions that were answered, also repeated ones; and those that had to be a conflict, and were.
    answered: int = 0
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def blame(self, promise: str, evidence: str) -> None:
        """A promise does not hold."""
        with self.lock:
            self.broken.setdefault(promise, evidence)
