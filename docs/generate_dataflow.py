"""Write docs/dataflow.md, drawn from the dataflows: `python docs/generate_dataflow.py`; `--check` says if it is stale."""

import re
import sys
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bytewax.testing import TestingSink, TestingSource  # noqa: E402
from bytewax.visualize import to_mermaid  # noqa: E402

from pipelines.load import load_flow  # noqa: E402
from pipelines.plan import plan_flow  # noqa: E402

TARGET = ROOT / "docs" / "dataflow.md"


class Nothing:
    """Has every step, and does nothing in it. No mock: Bytewax looks for its own marks on what it is given."""

    def __getattr__(self, name: str) -> Any:
        """The step of that name."""
        return lambda item: item


def render() -> str:
    """The page. The flows are built as an executor builds them, with nothing behind their steps."""
    source, sink, steps = cast(Any, TestingSource([])), cast(Any, TestingSink([])), cast(Any, Nothing())
    parts = ["# The dataflows of the executor\n\nDrawn by `python dev.py generate` from `pipelines/`.\n"]
    for flow, function in ((load_flow(source, steps, sink), load_flow), (plan_flow(source, steps, sink), plan_flow)):
        drawing = to_mermaid(flow).replace("flowchart TD", "flowchart LR")
        drawing = re.sub(r" -- \"[^\"]*\" --> ", " --> ", drawing)
        parts.append(f"\n## {flow.flow_id}\n\n{(function.__doc__ or '').splitlines()[0]}\n\n```mermaid\n{drawing}\n```\n")
    return "".join(parts)


def main() -> None:
    """Write, or compare."""
    page = render()
    if "--check" not in sys.argv:
        TARGET.write_text(page)
    elif not TARGET.exists() or TARGET.read_text() != page:
        raise SystemExit("docs/dataflow.md is out of date")


if __name__ == "__main__":
    main()
