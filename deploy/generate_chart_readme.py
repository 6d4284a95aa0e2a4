"""Write deploy/chart/README.md from values.yaml: `--check` says whether it is up to date.

A `# --` comment above a key says what it is; keys without one are told by their parents.
"""

import re
import sys
from pathlib import Path

CHART = Path(__file__).resolve().parent / "chart"
TARGET = CHART / "README.md"
HEADER = """# The chart jobber

Written by `python dev.py generate` from values.yaml. [docs/operations.md](../../docs/operations.md) goes from zero to a
cluster; sets of values to begin with are in [ci](ci).

```sh
helm install jobber deploy/chart --set secrets.existing=jobber --set blobs.url=s3://bucket/inputs
```

Values that the chart does not know are refused by [values.schema.json](values.schema.json), by their names. No secret is a
value.

| value | default | what it is |
|---|---|---|
"""


def rows(text: str) -> list[tuple[str, str, str]]:
    """Name, default and description of every value that has a default of its own."""
    found: list[tuple[str, str, str]] = []
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        said = re.match(r"\s*#\s?(-- )?(.*)", line)
        key = re.match(r"(\s*)([\w-]+):\s*(.*)", line)
        if said:
            comment = [said[2]] if said[1] else [*comment, said[2]] if comment else comment
        elif key:
            depth = len(key[1])
            path = [item for item in path if item[0] < depth] + [(depth, key[2])]
            name, default = ".".join(item[1] for item in path), key[3].partition(" #")[0]
            if default:
                found.append((name, default, " ".join(comment)))
            elif comment:
                found.append((name, "", " ".join(comment)))
            comment = []
        else:
            comment = []
    return found


def render() -> str:
    """The page."""
    lines = []
    for name, default, said in rows((CHART / "values.yaml").read_text()):
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{name}` | {shown} | {said.replace('|', chr(92) + '|')} |\n")
    return HEADER + "".join(lines)


def main() -> int:
    """Write it, or check."""
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(render())
        return 0
    if TARGET.exists() and TARGET.read_text() == render():
        return 0
    print("deploy/chart/README.md is not what values.yaml says")
    return 1


if __name__ == "__main__":
    sys.exit(main())
