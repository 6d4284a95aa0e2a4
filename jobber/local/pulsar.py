"""A real Apache Pulsar standalone, without Docker: broker, bookie and RocksDB metadata in one JVM, from Maven Central.

For `jobber up --broker pulsar` and for tests; a deployment brings its own cluster. Needs Java 17 or newer, and Maven once.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from jobber.errors import Unavailable
from jobber.local.child import ended_by_parent
from jobber.local.ports import free_port

#: pom.xml (which Pulsar), standalone.conf and log4j2.xml.
PARTS = Path(__file__).parent / "pulsar_standalone"
#: Copies the runtime jars of pom.xml: the plugin is named with its version, so that two machines get the same.
GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
#: Pulsar reaches into these packages of the JDK by reflection.
OPENS = (
    "java.base/java.io",
    "java.base/java.util.zip",
    "java.base/java.nio",
    "java.base/jdk.internal.misc",
    "java.base/sun.net",
    "java.management/sun.management",
    "java.base/jdk.internal.platform",
)
HEAP, DIRECT = "512m", "512m"
_PLAIN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PulsarStandalone:
    """One broker on one data folder; a start on the same folder goes on with its data and its ports."""

    def __init__(self, folder: Path, port: int = 0, admin_port: int = 0, *, with_parent: bool = False) -> None:
        self.folder = folder.resolve()
        #: It stops when the thread that started it ends.
        self._with_parent = with_parent
        self.log = self.folder / "pulsar.log"
        self._ports = self.folder / "ports"
        # Clients hold on to the advertised port: a restart keeps it.
        known = _numbers(self._ports)
        self.port = port or known[0] or free_port()
        self.admin_port = admin_port or known[1] or free_port()
        while self.admin_port == self.port:
            self.admin_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._wanted = False

    @property
    def url(self) -> str:
        """For clients."""
        return f"pulsar://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Of the admin API."""
        return f"http://127.0.0.1:{self.admin_port}"

    def start(self, timeout: float = 120) -> None:
        """Start, and answer once messages can be sent.

        Raises Unavailable: Java or Maven are missing, or it does not come up (with the end of its log).
        """
        again = (self.folder / "metadata").exists()
        self._wanted = True
        for _ in range(3):
            self._start_once(timeout)
            if not again or self._usable():
                return
            if not self._wanted:
                raise Unavailable("Pulsar was stopped before it was up.")
            # After kill -9 the metadata store deletes the dead process's registration late, and sometimes the new one's.
            self._end(30)
        raise Unavailable(f"Pulsar lost its bookie's registration at every start; see {self.log}")

    def stop(self, timeout: float = 30) -> None:
        """Stop cleanly; the hard way after `timeout` seconds. A start under way in another thread raises Unavailable."""
        self._wanted = False
        self._end(timeout)

    def kill(self) -> None:
        """SIGKILL."""
        self._wanted = False
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _end(self, timeout: float) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def wipe(self) -> None:
        """Forget every message and subscription; only while it is stopped."""
        for part in ("metadata", "bookkeeper"):
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def _start_once(self, timeout: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        self._ports.write_text(f"{self.port} {self.admin_port}")
        settings = (PARTS / "standalone.conf").read_text()
        for name, value in {"BROKER_PORT": self.port, "ADMIN_PORT": self.admin_port, "SYNC": "true"}.items():
            settings = settings.replace(f"@{name}@", str(value))
        (self.folder / "standalone.conf").write_text(settings)
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command(java(), jars()),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=ended_by_parent(signal.SIGTERM) if self._with_parent else None,
            )
        deadline = time.monotonic() + timeout
        # The default namespace is made after the port opens; healthy means that the broker produced and consumed.
        waiting = ["/admin/v2/namespaces/public/default", "/admin/v2/brokers/health?topicVersion=V2"]
        while waiting:
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                self.kill()
                why = f"ended with {ended}" if ended is not None else f"did not come up within {timeout:.0f} s"
                # Its folder may have been wiped with it.
                text = self.log.read_text(errors="replace") if self.log.exists() else ""
                tail = "\n".join(text.splitlines()[-10:])
                raise Unavailable(f"Pulsar {why}; {self.log} ends:\n{tail}")
            if self._ask(waiting[0]) == 200:
                waiting.pop(0)
            else:
                time.sleep(0.2)

    def _usable(self) -> bool:
        """Whether topics can be made, three times over two seconds."""
        for _ in range(3):
            topic = f"/admin/v2/persistent/public/default/__ready-{time.time_ns()}"
            if self._ask(topic, "PUT", 5) not in (200, 204):
                return False
            self._ask(f"{topic}?force=true", "DELETE", 5)
            if self._ask("/admin/v2/brokers/health?topicVersion=V2", timeout=5) != 200:
                return False
            time.sleep(0.7)
        return True

    def _ask(self, path: str, method: str = "GET", timeout: float = 10) -> int:
        try:
            with _PLAIN.open(urllib.request.Request(self.admin_url + path, method=method), timeout=timeout) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code
        except OSError:
            return 0

    def _command(self, runtime: str, library: Path) -> list[str]:
        return [
            runtime,
            "-cp",
            f"{library}/*",
            f"-Xmx{HEAP}",
            f"-XX:MaxDirectMemorySize={DIRECT}",
            # One broker for one person: the small compiler and collector start faster and take less.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.net.preferIPv4Stack=true",
            "-Djute.maxbuffer=10485760",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Dlog4j2.is.webapp=false",
            "-Dlog4j.shutdownHookEnabled=false",
            f"-Dlog4j.configurationFile={PARTS / 'log4j2.xml'}",
            "-Dpulsar.log.level=warn",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-Dbookkeeper.metadata.bookie.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataBookieDriver",
            "-Dbookkeeper.metadata.client.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataClientDriver",
            *(part for package in OPENS for part in ("--add-opens", f"{package}=ALL-UNNAMED")),
            "org.apache.pulsar.PulsarStandaloneStarter",
            "--config",
            str(self.folder / "standalone.conf"),
            "--no-functions-worker",
            "--no-stream-storage",
            "--advertised-address",
            "127.0.0.1",
            "--metadata-dir",
            str(self.folder / "metadata"),
            "--bookkeeper-dir",
            str(self.folder / "bookkeeper"),
        ]


def java() -> str:
    """The Java to run. Raises Unavailable when there is none, or one before 17."""
    found = shutil.which(os.environ.get("JAVA", "java"))
    if found is None:
        raise Unavailable("Pulsar needs Java 17 or newer, which is not installed; without --broker pulsar no Java is needed.")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version.group(1)) < 17:
        raise Unavailable(f"Pulsar needs Java 17 or newer; {found} is {said.splitlines()[0] if said else 'something else'}.")
    return found


def jars() -> Path:
    """The folder of Pulsar's jars, filled on first use (235 MB); safe when several processes ask at once.

    Raises Unavailable when Maven is missing or cannot get them.
    """
    pom = PARTS / "pom.xml"
    cache = Path(os.environ.get("JOBBER_PULSAR_CACHE", Path.home() / ".cache" / "jobber-pulsar"))
    home = cache / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    library = home / "lib"
    if library.is_dir():
        return library
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.is_dir():
            for left in home.glob("lib.*"):  # of one that was killed
                shutil.rmtree(left)
            _fetch(pom, home, library)
    return library


def _fetch(pom: Path, home: Path, library: Path) -> None:
    maven = shutil.which(os.environ.get("MVN", "mvn"))
    if maven is None:
        raise Unavailable(
            "Pulsar's jars come by Maven once, and mvn is not installed; install Maven, or go without --broker pulsar."
        )
    fresh = Path(tempfile.mkdtemp(dir=home, prefix="lib."))
    log = home / "maven.log"
    try:
        for attempt in (1, 2, 3):  # a hiccup of the registry should not cost a run
            with log.open("ab") as sink:
                command = [maven, "-B", "-ntp", "-f", str(pom), GOAL, "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
                status = subprocess.run(command, stdout=sink, stderr=sink, cwd=home, check=False).returncode
            if status == 0:
                break
            if attempt == 3:
                raise Unavailable(f"Maven could not get Pulsar's jars ({status}); see {log}")
        fresh.chmod(0o755)
        fresh.rename(library)
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(fresh)


def _numbers(ports: Path) -> tuple[int, int]:
    """The two ports that the file holds; zeros when there is none, or half of one."""
    with contextlib.suppress(OSError, ValueError):
        broker, admin = map(int, ports.read_text().split())
        return broker, admin
    return 0, 0
