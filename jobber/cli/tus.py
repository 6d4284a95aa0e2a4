"""Files go to the jobs service in pieces (tus 1.0): what was interrupted, here or there, goes on where it stopped.

Where a file's upload is, is remembered in the user's cache folder until its job has ended: a `load` that was killed and is
started again finds its upload, and its job.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from jobber import errors
from jobber.cli.client import Client

TUS = {"tus-resumable": "1.0.0"}
#: Bytes read and sent at a time.
PIECE = 256 << 10
#: Bytes of one request: what is between us and the service may have limits, and keeps a request's time short.
REQUEST = 1 << 30
#: Seconds for which nothing may get on before it is given up: a service that is started again needs some.
PATIENCE = 60.0
#: Answers that may be another one in a moment: somebody was quicker, too many at once, the service is away or its disk full.
AGAIN = frozenset({409, 423, 429, 502, 503, 504, 507})


#: Hears how many bytes are there, and what is waited for.
Told = Callable[[int, str], None]


class Upload:
    """One file on its way."""

    def __init__(
        self,
        client: Client,
        path: Path,
        told: Told = lambda done, note: None,
        *,
        most: int = REQUEST,
    ) -> None:
        self._client, self._path, self._told, self._most = client, path, told, most
        self._seen = _stamp(path)
        self._note = folder() / hashlib.sha256("\0".join((client.jobs, *self._seen)).encode()).hexdigest()
        self.size = path.stat().st_size
        #: Bytes that were there already when this began.
        self.resumed_at = 0
        #: How often a job on it has failed: another one is not the same submission.
        self.runs = 0

    def send(self, told: Told | None = None) -> str:
        """Send what is missing; answer the upload's id. `told` hears how many bytes are there, and what is waited for.

        Raises Unavailable when nothing gets on for PATIENCE seconds; InvalidState when the file changes meanwhile.
        """
        self._told = told or self._told
        url = self._remembered()
        first, waited_since, pause = True, time.monotonic(), 0.1
        best = -1
        while True:
            try:
                there = self._offset(url) if url else None
                if url is None or there is None:
                    url, there = self._create(), 0
                if first:
                    first, self.resumed_at = False, there
                self._told(there, "")
                if there > best:
                    best, waited_since, pause = there, time.monotonic(), 0.1
                if there == self.size:
                    self._unchanged()
                    return url.rpartition("/")[2]
                self._patch(url, there)
            except errors.Transient as fault:
                if time.monotonic() - waited_since > PATIENCE:
                    raise
                self._told(max(best, 0), _why(fault))
                time.sleep(pause)
                pause = min(pause * 2, 2.0)

    def forget(self) -> None:
        """The next time the file is sent anew."""
        self._note.unlink(missing_ok=True)

    def again(self) -> None:
        """A job on it has failed. The upload is kept for the next one."""
        if url := self._remembered():
            self.runs += 1
            self._note.write_text(f"{url} {self.runs}")

    def _remembered(self) -> str | None:
        try:
            url, runs = self._note.read_text().split(" ")
            self.runs = int(runs)
        except (OSError, ValueError):
            return None
        return url

    def _create(self) -> str:
        name = base64.b64encode(self._path.name.encode(errors="replace")).decode()
        headers = {"upload-length": str(self.size), "upload-metadata": f"filename {name}"}
        answer = self._client.send("POST", "/uploads/tus/", headers={**TUS, **headers})
        if answer.status_code != 201:
            raise self._client.refused(answer)
        url = httpx.URL(self._client.jobs).join(answer.headers["location"]).path
        self._note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._note.write_text(f"{url} 0")
        self.runs = 0
        return url

    def _offset(self, url: str) -> int | None:
        """Where to go on; None when the upload is not there any more, or of another length."""
        answer = self._client.send("HEAD", url, headers=TUS)
        if answer.status_code in (404, 410):
            return None
        if answer.status_code != 200:
            raise self._again(answer)
        return int(answer.headers["upload-offset"]) if int(answer.headers["upload-length"]) == self.size else None

    def _patch(self, url: str, offset: int) -> None:
        end = min(self.size, offset + self._most)
        headers = {
            **TUS,
            "upload-offset": str(offset),
            "content-type": "application/offset+octet-stream",
            "content-length": str(end - offset),
        }
        with self._path.open("rb") as file:
            file.seek(offset)
            # Looking through a large file that came in several goes takes its time, before the last answer.
            timeout = httpx.Timeout(30, read=600)
            answer = self._client.send("PATCH", url, headers=headers, content=self._pieces(file, offset, end), timeout=timeout)
        if answer.status_code != 204:
            raise self._again(answer)

    def _pieces(self, file: BinaryIO, done: int, end: int) -> Iterator[bytes]:
        while piece := file.read(min(PIECE, end - done)):
            yield piece
            done += len(piece)
            self._told(done, "")
        if done < end:
            self._unchanged()

    def _unchanged(self) -> None:
        if _stamp(self._path) != self._seen:
            self.forget()
            raise errors.InvalidState(f"{self._path} changed while it was uploaded; nothing was loaded. Start again.")

    def _again(self, answer: httpx.Response) -> errors.JobberError:
        fault = self._client.refused(answer)
        return errors.Unavailable(fault.message) if answer.status_code in AGAIN else fault


def folder() -> Path:
    """Where it is remembered."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jobber" / "uploads"


def _stamp(path: Path) -> tuple[str, ...]:
    """What tells one state of a file from another."""
    known = path.stat()
    return (str(path.resolve()), str(known.st_size), str(known.st_mtime_ns), str(known.st_ino))


def _why(fault: errors.JobberError) -> str:
    return "no answer, trying again" if "does not answer" in fault.message else fault.message[:60]
