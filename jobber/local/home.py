"""The data folder of `jobber up`: who holds it, its secrets, and where the running system can be found.

DATA/lock             held by the running `up`; its pid
DATA/up.json          where the running system is (also its pids); readable for the owner only
DATA/secrets/         jwt_secret, admin_password; readable for the owner only
DATA/postgres/ pulsar/ blobs/ logs/
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from jobber.errors import InvalidState, NotFound


@dataclass(frozen=True, slots=True)
class Home:
    """One data folder."""

    folder: Path

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.folder / "logs"

    @property
    def blobs_url(self) -> str:
        """Where inputs are kept, as JOBBER_BLOBS_URL."""
        return (self.folder / "blobs").resolve().as_uri()

    @property
    def admin_password_file(self) -> Path:
        """Holds the bootstrap admin's password."""
        return self.folder / "secrets" / "admin_password"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; the kernel lets go of it with the process.

        Raises InvalidState, naming the holder, or when one cannot write there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "lock").touch()
        except OSError as fault:
            raise InvalidState(f"The data folder {self.folder} cannot be written: {fault.strerror}") from fault
        with (self.folder / "lock").open("a+") as file:
            # More than once: somebody may be looking who holds it (`holder`).
            if not any(_lock(file, wait) for wait in (0, 0.05, 0.1, 0.2)):
                raise InvalidState(
                    f"The data folder {self.folder} is in use by another `jobber up` (pid {self.holder() or 'unknown'}). "
                    "Stop that one (Ctrl-C there, or `jobber down`), or give this one another --data-dir."
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                self.forget()

    def holder(self) -> int | None:
        """Pid of the `up` that holds the folder; None when nobody does."""
        with contextlib.suppress(OSError, ValueError), (self.folder / "lock").open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
        return None

    def jwt_secret(self) -> str:
        """Made once: tokens stay good over restarts."""
        return self._secret(self.folder / "secrets" / "jwt_secret", 48)

    def admin_password(self) -> str:
        """The bootstrap admin's password. JOBBER_ADMIN_PASSWORD wins until the admin is made; then the kept one counts."""
        given = os.environ.get("JOBBER_ADMIN_PASSWORD")
        if given and not self.admin_made.exists():
            write_private(self.admin_password_file, given)
            self.password_shown.touch()
            return given
        return self._secret(self.admin_password_file, 18)

    @property
    def admin_made(self) -> Path:
        """Exists once the system was ready, and so the admin made."""
        return self.folder / "secrets" / "admin_made"

    @property
    def password_shown(self) -> Path:
        """Exists once a person has seen the password, or chose it."""
        return self.folder / "secrets" / "admin_password_shown"

    def _secret(self, path: Path, size: int) -> str:
        if not path.exists():
            write_private(path, secrets.token_urlsafe(size))
        return path.read_text()

    def remember(self, state: dict[str, Any]) -> None:
        """Say where the running system is."""
        write_private(self.folder / "up.json", json.dumps(state))

    def recall(self) -> dict[str, Any]:
        """Where the running system is.

        Raises NotFound when none runs on this folder, or is not ready yet.
        """
        if self.holder():
            with contextlib.suppress(FileNotFoundError):
                state: dict[str, Any] = json.loads((self.folder / "up.json").read_text())
                return state
        raise NotFound(f"No `jobber up` is running on {self.folder}. Start one, or say --url where Jobber is.")

    def forget(self) -> None:
        """Nothing runs here any more."""
        (self.folder / "up.json").unlink(missing_ok=True)


def _lock(file: TextIO, wait: float) -> bool:
    time.sleep(wait)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; a half-written one never has its name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
