"""What one core of each service gets through, for docs/operations.md."""

import os
import platform
import re
from collections.abc import Mapping

from tests.support.system import ROOT

GUIDE = ROOT / "docs" / "operations.md"
MARKS = re.compile(r"<!-- figures -->\n.*?<!-- /figures -->", re.DOTALL)
ROLES = ("executor", "products", "postgres", "jobs")


def figures(rows: int, used: Mapping[str, float]) -> str:
    """A table of CPU seconds by role, with what follows from it."""
    speed = {role: rows / max(used[role], 0.01) for role in ROLES}
    lines = [f"| {role} | {used[role]:.1f} | {speed[role]:,.0f} |" for role in speed]
    ratio = speed["postgres"] / speed["executor"]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join(
        [
            f"{rows:,} rows of a CSV file, embedded PostgreSQL and transport, on {machine}:",
            "",
            "| role | CPU seconds | rows a second of one core |",
            "|---|---|---|",
            *lines,
            "",
            f"So one core of PostgreSQL keeps up with {ratio:.1f} cores of executors and"
            f" {speed['postgres'] / speed['products']:.1f} of products;",
            f"four cores of PostgreSQL take {4 * speed['postgres']:,.0f} rows a second, if its disk does, from"
            f" {-(-4 * ratio // 2):.0f} executors of two cores each.",
        ]
    )


def write(told: str) -> None:
    """Put it into the guide, between its marks."""
    GUIDE.write_text(MARKS.sub(lambda _: f"<!-- figures -->\n{told}\n<!-- /figures -->", GUIDE.read_text()))
