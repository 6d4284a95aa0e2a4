#!/usr/bin/env python3
"""Everything a person does in this checkout, with nothing but Python 3.11 or 3.12.

    python dev.py demo [FILE] [--keep] [--broker pulsar]   the whole of Jobber on this machine, on 100,000 products
    python dev.py test [PYTEST ARGS]                       every check, then every test
    python dev.py jobber ARGS                              the command line, from the checkout
    python dev.py chaos ARGS                               a campaign of faults against real processes
    python dev.py soak ARGS                                a steady load, and whether anything grows
    python dev.py lint | format | generate | lock          the single steps
    python dev.py bench NAME                               one of benchmarks/

It makes `.venv` on first use, from the hashes in requirements.lock, and again when the lock or the interpreter changes.
"""

from __future__ import annotations  # an older Python must get as far as the sentence that says so

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "requirements.lock"
IMAGE_LOCK = ROOT / "deploy" / "requirements.lock"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
MARKER = VENV / "jobber.json"
#: Raised when the way the virtualenv is made changes, so that those made before are made again.
RECIPE = 1
SUPPORTED = ((3, 11), (3, 12))

#: What is generated and committed, and by which script.
GENERATED = (
    ("protobuf code", "protos/generate.py"),
    ("GraphQL SDL", "docs/generate_sdl.py"),
    ("docs/settings.md", "docs/generate_settings.py"),
    ("docs/observability.md", "docs/generate_observability.py"),
    ("docs/dataflow.md", "docs/generate_dataflow.py"),
    ("dashboard", "deploy/grafana/generate_dashboard.py"),
    ("chart README", "deploy/generate_chart_readme.py"),
)
#: A third of the tests' time is waiting, for a process to start or a lease to run out: two sessions of pytest share CI's two
#: cores. Each has its own PostgreSQL, folders and ports, and all tests of a file run in one of them, in the order of the files:
#: those that take longest (e2e, integration) come first. With -n 0 there is one session, which can be debugged.
WORKERS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
CHECKS = (
    ("format", ("ruff", "format", "--check", "."), "python dev.py format"),
    ("lint", ("ruff", "check", "."), "python dev.py format mends most of it"),
    ("types", ("mypy",), "see the messages"),
    ("layers", ("lint-imports", "--no-logo"), "see [tool.importlinter] in pyproject.toml"),
    *((what, (script, "--check"), "python dev.py generate") for what, script in GENERATED),
)


class Stop(Exception):
    """Something a person has to do; the message says what."""


def main(arguments: list[str]) -> int:
    """Run the command; answer its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print((__doc__ or "").strip())
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    commands = {
        "demo": lambda: jobber(["demo", *rest]),
        "jobber": lambda: jobber(rest),
        "test": lambda: test(rest),
        "lint": lambda: check(CHECKS),
        "format": format_code,
        "generate": generate,
        "bench": lambda: bench(rest),
        "chaos": lambda: module("tests.chaos", rest),
        "soak": lambda: module("tests.chaos.soak", rest),
        "lock": lock,
    }
    if command not in commands:
        print(f"There is no command {command!r}. Known are: {', '.join(commands)}.", file=sys.stderr)
        return 2
    try:
        require_python()
        prepare()
        return commands[command]()
    except Stop as why:
        print(f"\n{why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def require_python() -> None:
    """Bytewax has wheels up to 3.12, Polars from 3.11 on."""
    if sys.version_info[:2] not in SUPPORTED:
        here = ".".join(map(str, sys.version_info[:2]))
        found = next((name for name in ("python3.12", "python3.11") if shutil.which(name)), None)
        hint = f"Run it with: {found} dev.py …" if found else "Install one of them and run dev.py with it."
        raise Stop(f"Jobber needs Python 3.11 or 3.12; this is {here} ({sys.executable}). {hint}")
    if os.name != "posix":
        raise Stop("Jobber runs on Linux and macOS; on Windows, use it inside WSL.")


# The virtualenv.


def key() -> dict[str, object]:
    """What the virtualenv depends on."""
    return {
        "recipe": RECIPE,
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "python": sys.version,
        "place": str(VENV),
    }


def is_whole() -> bool:
    """Whether the virtualenv was finished for this lock, interpreter and place, and nothing of it has gone since."""
    try:
        made = json.loads(MARKER.read_text())
    except (OSError, ValueError):
        return False
    wanted = made.pop("packages", [])
    return made == key() and os.access(PYTHON, os.X_OK) and set(wanted) <= packages()


def packages() -> set[str]:
    """Names of the installed distributions."""
    return {path.name for path in VENV.glob("lib/python*/site-packages/*.dist-info")}


def prepare() -> None:
    """Make the virtualenv unless it is whole. Several at once wait for the first."""
    if is_whole():
        return
    with held(ROOT / ".cache" / "venv.lock"):
        if is_whole():
            return
        count = len(re.findall(r"^[A-Za-z0-9]", LOCK.read_text(), flags=re.MULTILINE))
        say(f"Installing {count} packages into .venv (once; a minute or two) …")
        began = time.monotonic()
        install()
        say(f"Installed in {time.monotonic() - began:.0f} s.")


def install() -> None:
    """Make the virtualenv anew; the marker comes last, so that one that was broken off is made again."""
    shutil.rmtree(VENV, ignore_errors=True)
    pip = make_venv()
    steps = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
    outcome = subprocess.run([*steps, "--require-hashes", "--no-deps", "-r", str(LOCK)], capture_output=True, text=True)
    if outcome.returncode:
        raise Stop(
            f"{outcome.stdout}{outcome.stderr}\nInstalling the packages of requirements.lock failed; pip's words are above.\n"
            "Is a package index reachable (behind a proxy or mirror: pip's own configuration applies), and is there room on "
            "the disk? Then run the same command again: it starts afresh."
        )
    folder = next(VENV.glob("lib/python*/site-packages"))
    (folder / "jobber-checkout.pth").write_text(f"{ROOT}\n")
    MARKER.write_text(json.dumps(key() | {"packages": sorted(packages())}))


def make_venv() -> list[str]:
    """Make an empty virtualenv; answer the pip that installs into it."""
    import venv

    try:
        import ensurepip  # noqa: F401  (Debian keeps it in a package of its own)
    except ImportError:
        venv.create(VENV, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
        if subprocess.run([*pip, "--version"], capture_output=True).returncode == 0:
            return pip
        version = ".".join(map(str, sys.version_info[:2]))
        raise Stop(
            f"This Python has neither ensurepip nor pip. On Debian and Ubuntu: apt install python{version}-venv"
        ) from None
    try:
        venv.create(VENV, symlinks=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        raise Stop(f"Could not make {VENV}: {fault}") from fault
    return [str(PYTHON), "-m", "pip"]


@contextlib.contextmanager
def held(path: Path):  # type: ignore[no-untyped-def]  # before the interpreter is known to be new enough
    """Hold a lock between processes; it goes with the process that holds it."""
    import fcntl

    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another dev.py is making .venv; waiting for it …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# The commands.


def python(*arguments: str) -> list[str]:
    """The virtualenv's Python; -P keeps a folder called `jobber` in the current directory from being imported."""
    return [str(PYTHON), "-P", *arguments]


def environment() -> dict[str, str]:
    """With the virtualenv's programs on the path: protoc looks for its plugins there."""
    return os.environ | {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def jobber(arguments: list[str]) -> int:
    """Become the command line."""
    sys.stdout.flush()
    # For sentences that tell how to go on.
    os.environ["JOBBER_COMMAND"] = f"python {os.path.relpath(ROOT / 'dev.py')} jobber"
    os.execv(PYTHON, python("-m", "jobber.cli", *arguments))


def bench(arguments: list[str]) -> int:
    """Become a benchmark; without a name, list them."""
    names = sorted(path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py"))
    if not arguments or arguments[0] not in names:
        print(f"usage: python dev.py bench NAME …; there are: {', '.join(names) or 'none yet'}", file=sys.stderr)
        return 2
    return module(f"benchmarks.{arguments[0]}", arguments[1:])


def module(name: str, arguments: list[str]) -> int:
    """Become a module of the checkout; unlike tests, these are programs that take minutes."""
    os.chdir(ROOT)
    os.execv(PYTHON, python("-m", name, *arguments))


def test(arguments: list[str]) -> int:
    """Every check, then every test that needs neither Pulsar nor minutes. Arguments go to pytest; the last -n counts."""
    failed = check(CHECKS)
    marker = [] if "-m" in arguments else ["-m", "not pulsar and not campaign and not long"]
    tests = subprocess.call(python("-m", "pytest", *WORKERS, *marker, *arguments), cwd=ROOT)
    return failed or tests


def check(steps: tuple[tuple[str, tuple[str, ...], str], ...]) -> int:
    """Run the steps, a line each, and what the failed ones had to say; answer 1 when any failed."""
    failed = 0
    for name, command, remedy in steps:
        began = time.monotonic()
        program = python(command[0]) if command[0].endswith(".py") else [str(VENV / "bin" / command[0])]
        call = [*program, *command[1:]]
        outcome = subprocess.run(call, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        took = f"{time.monotonic() - began:.1f} s"
        if outcome.returncode == 0:
            print(f"ok      {name:16}{took:>8}", flush=True)
        else:
            failed = 1
            print(f"FAILED  {name:16}{took:>8}   {remedy}\n{outcome.stdout.rstrip()}\n", flush=True)
    return failed


def format_code() -> int:
    """Mend what can be mended."""
    ruff = str(VENV / "bin" / "ruff")
    mended = subprocess.call([ruff, "check", "--fix", "--quiet", "."], cwd=ROOT)
    return subprocess.call([ruff, "format", "."], cwd=ROOT) or mended


def generate() -> int:
    """Write the generated code anew."""
    return max(subprocess.call(python(script), cwd=ROOT, env=environment()) for _, script in GENERATED)


def lock() -> int:
    """Resolve pyproject.toml's dependencies, to requirements.lock and to the image's: versions and hashes, no addresses."""
    home = ROOT / ".cache" / "uv"
    uv = home / "bin" / "uv"
    if not uv.exists():
        import venv

        say("Installing uv into .cache/uv (once) …")
        venv.create(home, symlinks=True, with_pip=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    # The image's after ours, and within it: both hold the same versions.
    for target, more in ((LOCK, ("--group", "dev")), (IMAGE_LOCK, ("--constraint", str(LOCK)))):
        command = [
            *(str(uv), "pip", "compile", "pyproject.toml", *more, "--universal", "--python-version", "3.11"),
            *("--generate-hashes", "--no-emit-index-url", "--no-annotate", "--quiet"),
            *("--custom-compile-command", "python dev.py lock", "--output-file", str(target)),
        ]
        status = subprocess.call(command, cwd=ROOT)
        if status:
            return status
        if "://" in target.read_text():
            raise Stop(f"{target.name} holds an address; it must hold names, versions and hashes only.")
    return 0


def say(sentence: str) -> None:
    """Tell the person, apart from what the command itself prints."""
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
