"""Generate Python from the .proto files: `python -m protos.generate`; `--check` says whether it is up to date.

protoc writes imports from the proto root (`from jobber.v1 import ...`), where the kernel package `jobber` lives; here they
are rewritten to `protos.jobber.*`.
"""

import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(into: Path) -> None:
    """Write the generated modules, and a package marker in every folder, below `into`."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{well_known}",
            f"--python_out={into}",
            f"--pyi_out={into}",
            f"--grpc_python_out={into}",
            f"--mypy_grpc_out={into}",
            *sources,
        ]
    )
    if status:
        raise SystemExit(f"protoc failed with {status}")
    for pattern in PATTERNS:
        for path in into.rglob(pattern):
            text = path.read_text()
            text = re.sub(r"^(from|import) jobber\.", r"\1 protos.jobber.", text, flags=re.MULTILINE)
            text = re.sub(r"(?<![\w./\"'])jobber\.(v1|auth|jobs|products)\.(?=[\w.]*_pb2)", r"protos.jobber.\1.", text)
            path.write_text(text.replace("protos.protos.", "protos."))
            for folder in [path.parent, *path.parent.parents]:
                if folder == into:
                    break
                (folder / "__init__.py").write_text('"""Generated."""\n')


def main() -> None:
    """Generate in place, or compare."""
    if "--check" not in sys.argv:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        stale = [
            str(path.relative_to(fresh))
            for pattern in PATTERNS
            for path in fresh.rglob(pattern)
            if not (ROOT / path.relative_to(fresh)).exists() or (ROOT / path.relative_to(fresh)).read_text() != path.read_text()
        ]
    if stale:
        raise SystemExit("generated code is out of date (run `python -m protos.generate`): " + ", ".join(stale))


if __name__ == "__main__":
    main()
