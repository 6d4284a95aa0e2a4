"""Write api/*/schema.graphql, the public GraphQL schemas: `python docs/generate_sdl.py`; `--check` says if they are stale.

They are a public surface: a change that shows here needs a deprecation, or a good reason.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from api.auth.graphql_door import schema as auth  # noqa: E402
from api.graphql.sdl import sdl  # noqa: E402
from api.jobs.graphql_door import schema as jobs  # noqa: E402


def main() -> None:
    """Write, or compare."""
    stale = []
    for room, schema in (("auth", auth), ("jobs", jobs)):
        target = ROOT / "api" / room / "schema.graphql"
        text = sdl(schema)
        if "--check" not in sys.argv:
            target.write_text(text)
        elif not target.exists() or target.read_text() != text:
            stale.append(str(target.relative_to(ROOT)))
    if stale:
        raise SystemExit(f"out of date: {', '.join(stale)}")


if __name__ == "__main__":
    main()
