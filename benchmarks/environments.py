"""What only a benchmark needs, kept from requirements.lock: a virtualenv under .cache, or a Debian package unpacked there."""

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report


def environment(name: str, packages: Sequence[str]) -> Path:
    """The Python of a virtualenv with these packages, made on first use and again when they or the interpreter change.

    Raises CalledProcessError when they cannot be installed; pip has said why.
    """
    folder = report.FOLDER / "environments" / name
    python, marker = folder / "bin" / "python", folder / "made.json"
    wanted = json.dumps([*packages, sys.version, str(folder)])
    if not marker.exists() or marker.read_text() != wanted:
        print(f"Installing {len(packages)} packages for this benchmark (once; a minute) …", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, symlinks=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        subprocess.run([*pip, *packages], check=True)
        # Last, so that one that was broken off is made again.
        marker.write_text(wanted)
    return python


def debian(package: str, program: str) -> Path | None:
    """A program: the installed one, or that of the Debian package, unpacked and not installed; None without either."""
    if installed := shutil.which(program):
        return Path(installed)
    folder = report.FOLDER / "debian" / package
    found = folder / "usr" / "bin" / program
    if not found.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        folder.mkdir(parents=True, exist_ok=True)
        # A list of packages that was never fetched or is old: once more after an update, which takes root.
        for command in (["apt-get", "download", package], ["apt-get", "update"], ["apt-get", "download", package]):
            subprocess.run(command, cwd=folder, capture_output=True)
            if archives := sorted(folder.glob("*.deb")):
                subprocess.run(["dpkg", "-x", archives[-1].name, "."], cwd=folder, capture_output=True)
                break
    # It may lack a library that is not unpacked with it.
    return found if found.exists() and not subprocess.run([found, "--version"], capture_output=True).returncode else None
