"""What the benchmarks share: CPU seconds by role, quantiles, a table, a JSON file."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.system import System

#: Where results go unless told otherwise.
FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "bench"


def cpu_by_role(system: System) -> dict[str, float]:
    """CPU seconds (user and system) that each role has used, ended children included; PostgreSQL with all its backends."""
    used: dict[str, float] = {}
    for role in system.state["pids"]:
        used[role] = sum(cpu_of(pid) for pid in system.pids(role))
    return used


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The difference; `total` of all roles."""
    roles = {role: round(after[role] - before[role], 3) for role in after}
    return {**roles, "total": round(sum(roles.values()), 3)}


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, its children and those of them that have ended."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns of text, aligned; the keys of the first row are the head."""
    if not rows:
        return ""
    lines = [[str(name) for name in rows[0]], *([_shown(row.get(name)) for name in rows[0]] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def write(name: str, results: Mapping[str, Any], place: Path | None = None) -> Path:
    """The results with the machine they are from, as JSON."""
    file = place or FOLDER / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
    file.write_text(json.dumps({"name": name, "at": time.time(), "machine": machine, **results}, indent=1))
    return file


def draw(file: Path, chart: str) -> str:
    """Keep a chart beside its JSON; a sentence that says where both are."""
    drawn = file.with_suffix(".svg")
    drawn.write_text(chart)
    return f"written: {file.name} and {drawn.name}, in {os.path.relpath(file.parent)}"


def _shown(value: object) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, int | float)
        else str(value)
    )
