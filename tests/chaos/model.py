"""What the people of a campaign know of their jobs, and what was seen that must not be."""

import threading
from dataclasses import dataclass, field
from typing import Any

from jobber.model import PLAIN, WriteMode, Writing


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
    writing: Writing = PLAIN
    #: Jobs of one chain write the same products, one after the other: each was submitted when the one before had ended.
    chain: str | None = None
    #: Row number -> the text of a good record that may be rejected all the same, for want of a product that it names.
    raw: dict[int, str] = field(default_factory=dict)
    canceled: bool = False
    #: Rows that the table had of it when its cancel had been answered CANCELED.
    rows_at_cancel: int | None = None

    @property
    def total(self) -> int:
        """Records of the input."""
        return len(self.good) + len(self.bad)

    @property
    def allowed(self) -> int | None:
        """Rejects beyond which it fails; None: any number will do."""
        return 0 if self.writing.whole and self.max_errors is None else self.max_errors

    @property
    def options(self) -> dict[str, Any]:
        """As they are submitted."""
        made: dict[str, Any] = {}
        if self.max_errors is not None:
            made["maxErrors"] = str(self.max_errors)
        if self.writing.mode is not WriteMode.INSERT:
            made |= {"mode": self.writing.mode, "keys": list(self.writing.keys)}
        if self.writing.whole:
            made["atomicity"] = "ALL_OR_NOTHING"
        if self.writing.dry_run:
            made["dryRun"] = True
        return made

    @property
    def kind(self) -> str:
        """In words: what is asked, and how it is to be written."""
        parts = ("whole" if self.writing.whole else "", "dry" if self.writing.dry_run else "")
        return " ".join(filter(None, (self.name, self.writing.mode, *parts)))


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
