"""People who submit all the time, and what they do to their jobs; what they remember is the model of the campaign."""

import contextlib
import functools
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobber import errors
from jobber.cli.client import Client
from jobber.model import State
from tests.chaos.inputs import any_job, link
from tests.chaos.model import Known, Model

#: Jobs of one person that are under way at once: the system is loaded, and does not fall behind for ever.
UNDER_WAY = 4
#: How often the next job is one of the person's chain, if the one before it has ended.
CHAINED = 0.3
#: Seconds between two tries of something that did not answer.
AGAIN = 0.3
CANCEL = "mutation($id: ID!) { jobCancel(id: $id) { job { state } userErrors { code message } } }"
PAUSE = "mutation($id: ID!) { jobPause(id: $id) { job { state } userErrors { code message } } }"
RESUME = "mutation($id: ID!) { jobResume(id: $id) { job { state } userErrors { code message } } }"
STATE = "query($id: ID!) { job(id: $id) { state } }"


class Person(threading.Thread):
    """Submits, repeats, cancels, pauses."""

    def __init__(
        self, number: int, seed: int, client: Client, folder: Path, model: Model, counted: Callable[[str], int]
    ) -> None:
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
        #: The last job of the person's chain.
        self._last: Known | None = None
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
            seen = self.client.ask(STATE, {"id": job.id})["job"]
        except errors.Transient:
            return False
        if seen is None:
            self.model.blame("I4", f"job {job.id} was answered and is not there")
        elif not State(seen["state"]).terminal:
            return False
        self._mine.remove(job)
        return True

    def _one(self) -> None:
        """One submission, and perhaps more that a person does to a job."""
        self._serial += 1
        key = f"{self.number}-{self._serial}"
        chained = self._last not in self._mine and self.random.random() < CHAINED
        make = functools.partial(link, chain=f"{self.number}") if chained else any_job
        known, path = make(key, self.random, self.folder)
        if path is not None and not self._uploaded(known, path):
            return
        first = self._submitted(known)
        with self.model.lock:
            (self.model.unanswered if first is None else self.model.jobs).append(known)
        if first is None:
            return
        known.id = first
        self._mine.append(known)
        if chained:
            self._last = known
        dice = self.random.random()
        if dice < 0.15:
            again = self._submitted(known)
            if again not in (None, first):
                self.model.blame("I3", f"key {key} gave {first} and then {again}")
        elif dice < 0.25:
            self._conflict(known)
        elif dice < 0.4:
            # Most of them while something of it is on its way.
            self.enough.wait(self.random.random() ** 2 * 2)
            self._cancel(known)
        elif dice < 0.5:
            self._pause(known)

    def _submitted(self, known: Known) -> str | None:
        """The job's id; tried again until it is answered, or the campaign ends."""
        while not self.enough.is_set():
            try:
                job = self.client.execute(known.name, known.data, known.options, key=known.key)
                self.model.answered += 1
                return job.id
            except errors.Transient:
                time.sleep(AGAIN)
            except errors.Conflict as fault:
                self.model.blame("I3", f"key {known.key} with its own payload: {fault}")
                return None
        return None

    def _conflict(self, known: Known) -> None:
        other = [{"name": "another payload", "price": 1}]
        while not self.enough.is_set():
            try:
                job = self.client.execute("LoadProducts", other, known.options, key=known.key)
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
        # What a chain's job has written, the next one may write over.
        if job is not None and job["state"] == "CANCELED" and known.chain is None:
            known.rows_at_cancel = self.counted(known.id)

    def _pause(self, known: Known) -> None:
        if self._insist(PAUSE, known) is not None:
            self.enough.wait(self.random.random() * 3)
        # A frozen service may carry a pause out long after: the campaign looks for it until the job has ended.
        self._insist(RESUME, known)

    def _insist(self, mutation: str, known: Known) -> dict[str, Any] | None:
        """Ask until it is answered, whatever the answer, or the campaign ends."""
        while not self.enough.is_set():
            with contextlib.suppress(errors.Transient):
                return self.client.ask(mutation, {"id": known.id})
            time.sleep(AGAIN)
        return None

    def _uploaded(self, known: Known, path: Path) -> bool:
        """Whether its file was stored before the campaign ended; it goes away here."""
        try:
            while not self.enough.is_set():
                try:
                    known.data = {"fileName": str(self.client.upload(path)["id"])}
                    return True
                except errors.JobberError as fault:
                    # A full disk is answered 507: people come again.
                    if not isinstance(fault, errors.Transient) and "507" not in str(fault):
                        raise
                    time.sleep(AGAIN)
            return False
        finally:
            path.unlink()
