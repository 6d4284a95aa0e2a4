"""People who submit all the time, by a plan that only the seed decides, and what they remember: the model of the campaign."""

import json
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobber import errors
from jobber.cli.client import Client
from jobber.jobtypes.fibonacci import sequence
from jobber.model import State

#: Jobs of one person that are under way at once: the system is loaded, and does not fall behind for ever.
UNDER_WAY = 4
#: Seconds between two tries of something that did not answer.
AGAIN = 0.3
CANCEL = "mutation($id: ID!) { jobCancel(id: $id) { job { state } userErrors { code message } } }"
PAUSE = "mutation($id: ID!) { jobPause(id: $id) { job { state } userErrors { code message } } }"
RESUME = "mutation($id: ID!) { jobResume(id: $id) { job { state } userErrors { code message } } }"
STATE = "query($id: ID!) { job(id: $id) { state } }"


@dataclass
class Known:
    """A job as its submitter knows it."""

    id: str
    owner: str
    name: str
    key: str
    data: Any
    #: Row number -> what must be in the table: name and price, or for Fibonacci the value.
    good: dict[int, tuple[str, str]]
    #: Row number -> codes of its faults.
    bad: dict[int, set[str]]
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
    #: Promise -> the first piece of evidence.
    broken: dict[str, str] = field(default_factory=dict)
    #: Submissions that were answered, also repeated ones.
    answered: int = 0
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def blame(self, promise: str, evidence: str) -> None:
        """A promise does not hold."""
        with self.lock:
            self.broken.setdefault(promise, evidence)


class Person(threading.Thread):
    """Submits, repeats, cancels, pauses."""

    def __init__(self, number: int, seed: int, client: Client, folder: Path, model: Model, counted: Any) -> None:
        super().__init__(name=f"person {number}", daemon=True)
        self.number = number
        self.random = random.Random(f"{seed} {number}")
        self.client = client
        self.folder = folder
        self.model = model
        #: Rows of a job in the table, asked directly.
        self.counted = counted
        self.enough = threading.Event()
        self.fault: BaseException | None = None
        self._mine: list[Known] = []
        self._serial = 0

    def run(self) -> None:
        """Until told that it is enough."""
        try:
            while not self.enough.is_set():
                if len([job for job in self._mine if not self._ended(job)]) >= UNDER_WAY:
                    self.enough.wait(AGAIN)
                    continue
                self._one()
                self.enough.wait(self.random.random() * 0.5)
        except BaseException as fault:
            self.fault = fault

    def _ended(self, job: Known) -> bool:
        try:
            if State(self.client.ask(STATE, {"id": job.id})["job"]["state"]).terminal:
                self._mine.remove(job)
                return True
        except errors.Transient:
            pass
        except TypeError:
            self.model.blame("I4", f"job {job.id} was answered and is not there")
            self._mine.remove(job)
            return True
        return False

    def _one(self) -> None:
        """One submission, and perhaps more that a person does to a job."""
        self._serial += 1
        key = f"{self.number}-{self._serial}"
        known = self._input(key)
        options: dict[str, Any] = {}
        if known.max_errors is not None:
            options["maxErrors"] = str(known.max_errors)
        first = self._submitted(known, options)
        if first is None:
            return
        known.id = first
        with self.model.lock:
            self.model.jobs.append(known)
        self._mine.append(known)
        dice = self.random.random()
        if dice < 0.15:
            again = self._submitted(known, options)
            if again not in (None, first):
                self.model.blame("I3", f"key {key} gave {first} and then {again}")
        elif dice < 0.25:
            self._conflict(known, options)
        elif dice < 0.35:
            self.enough.wait(self.random.random() * 2)
            self._cancel(known)
        elif dice < 0.45:
            self._pause(known)

    def _submitted(self, known: Known, options: dict[str, Any]) -> str | None:
        """The job's id; tried again until it is answered, or the campaign ends."""
        while not self.enough.is_set():
            try:
                job = self.client.execute(known.name, known.data, options, key=known.key)
                self.model.answered += 1
                return job.id
            except errors.Transient:
                time.sleep(AGAIN)
            except errors.Conflict as fault:
                self.model.blame("I3", f"key {known.key} with its own payload: {fault}")
                return None
        return None

    def _conflict(self, known: Known, options: dict[str, Any]) -> None:
        other = [{"name": "another payload", "price": 1}]
        while not self.enough.is_set():
            try:
                job = self.client.execute("LoadProducts", other, options, key=known.key)
                self.model.blame("I3", f"key {known.key} was taken for another payload, as job {job.id}")
                return
            except errors.Conflict:
                self.model.refused += 1
                return
            except errors.Transient:
                time.sleep(AGAIN)

    def _cancel(self, known: Known) -> None:
        known.canceled = True
        payload = self._insist(CANCEL, known)
        if payload is None:
            return
        job = payload["jobCancel"]["job"]
        if job is not None and job["state"] == "CANCELED":
            known.rows_at_cancel = self.counted(known.id)

    def _pause(self, known: Known) -> None:
        if self._insist(PAUSE, known) is not None:
            self.enough.wait(self.random.random() * 3)
        # A frozen service may carry a pause out long after: it is looked for until the job has ended.
        self.resume(known)

    def resume(self, known: Known) -> None:
        """Let the job go on, if it is paused."""
        self._insist(RESUME, known, always=True)

    def _insist(self, mutation: str, known: Known, *, always: bool = False) -> Any:
        """Ask until it is answered, whatever the answer."""
        while always or not self.enough.is_set():
            try:
                return self.client.ask(mutation, {"id": known.id})
            except errors.Transient:
                time.sleep(AGAIN)
        return None

    # Inputs.

    def _input(self, key: str) -> Known:
        dice = self.random.random()
        if dice < 0.08:
            return self._numbers(key)
        if dice < 0.16:
            return self._poison(key)
        count = self.random.choice((1, 1, 2, 10, 10, 300, 3_000, 20_000, 60_000))
        records, good, bad = self._records(key, count)
        known = Known("", self.client.token, "LoadProducts", key, None, good, bad)
        if bad and self.random.random() < 0.2:
            known.max_errors = self.random.choice((0, len(bad) // 2, len(bad)))
        if count <= 10 and self.random.random() < 0.7:
            known.data = f"[{', '.join(map(_json, records))}]"
            return known
        known.data = {"fileName": self._uploaded(key, records)}
        return known

    def _records(self, key: str, count: int) -> tuple[list[tuple[str, str]], dict[int, tuple[str, str]], dict[int, set[str]]]:
        records: list[tuple[str, str]] = []
        good: dict[int, tuple[str, str]] = {}
        bad: dict[int, set[str]] = {}
        share = self.random.choice((0, 0, 0.01, 0.3))
        for row in range(1, count + 1):
            name, price = f"{key} {row}", f"{self.random.randint(0, 99_999) / 100:.2f}"
            if self.random.random() < share:
                if row % 2:
                    records.append((name, "-1"))
                    bad[row] = {"RANGE"}
                else:
                    records.append(("", price))
                    bad[row] = {"REQUIRED"}
            else:
                records.append((name, price))
                good[row] = (name, price)
        return records, good, bad

    def _uploaded(self, key: str, records: list[tuple[str, str]]) -> str:
        form = self.random.choice(("csv", "ndjson", "json"))
        path = self.folder / f"{key}.{form}"
        if form == "csv":
            path.write_text("name,price\n" + "".join(f'"{name}",{price}\n' for name, price in records))
        elif form == "ndjson":
            path.write_text("".join(f"{_json(record)}\n" for record in records))
        else:
            path.write_text(f"[{', '.join(map(_json, records))}]")
        while True:
            try:
                return str(self.client.upload(path)["id"])
            except errors.JobberError as fault:
                # A full disk is answered 507: people come again.
                if not isinstance(fault, errors.Transient) and "507" not in str(fault):
                    raise
                if self.enough.is_set():
                    return "never"
                time.sleep(AGAIN)

    def _numbers(self, key: str) -> Known:
        wanted = [self.random.randint(0, 300) for _ in range(self.random.choice((1, 5, 40)))]
        values = sequence(sorted(set(wanted)))
        good = {row: (str(n), values[n]) for row, n in enumerate(wanted, 1)}
        return Known("", self.client.token, "Fibonacci", key, json.dumps([{"iterations": n} for n in wanted]), good, {})

    def _poison(self, key: str) -> Known:
        count = self.random.choice((1, 5, 400))
        guilty = {self.random.randint(1, count): self.random.choice(("kill", "exit", "abort", "segfault"))}
        names = [guilty.get(row, f"{key} {row}") for row in range(1, count + 1)]
        good = {row: (name, "1.50") for row, name in enumerate(names, 1) if row not in guilty}
        data = json.dumps([{"name": name, "price": 1.5} for name in names])
        return Known("", self.client.token, "Poisonous", key, data, good, {row: {"POISON"} for row in guilty})


def _json(record: tuple[str, str]) -> str:
    return f'{{"name": {json.dumps(record[0])}, "price": {record[1]}}}'
