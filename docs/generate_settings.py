"""Write docs/settings.md from jobber/settings.py: `python docs/generate_settings.py`; `--check` says whether it is up to date.

Names, types and defaults come from the classes, the sentences from their `#:` comments.
"""

import ast
import sys
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jobber import settings  # noqa: E402

TARGET = ROOT / "docs" / "settings.md"
CLASSES = (
    *("ServiceSettings", "DoorSettings", "TransportSettings"),
    *("AuthSettings", "JobsSettings", "ExecutorSettings", "ProductsSettings"),
)
TITLES = {
    "ServiceSettings": "Every service",
    "DoorSettings": "GraphQL (auth and jobs)",
    "TransportSettings": "The transport (jobs and executor)",
    "AuthSettings": "auth",
    "JobsSettings": "jobs",
    "ExecutorSettings": "executor",
    "ProductsSettings": "products",
}
#: What the environment's own names mean; they are contracts and stand without a comment in the code.
KNOWN = {
    "DATABASE_URL": "The PostgreSQL database, `postgresql://user:password@host/name`.",
    "AUTH_GRPC_SERVICE_URL": "The auth service's gRPC, `host:port`; several separated by commas are served in turn.",
    "JOBS_GRPC_SERVICE_URL": "The jobs service's gRPC, `host:port`; several separated by commas are served in turn.",
    "PRODUCTS_GRPC_SERVICE_URL": "The products service's gRPC, `host:port`; several separated by commas are served in turn.",
    "JOBBER_HTTP_PORT": "Port of GraphQL (where there is one), health and metrics.",
    "JOBBER_GRPC_PORT": "Port of gRPC.",
}
HEADER = """# Settings

Environment variables, read once at start. Written by `python dev.py generate` from `jobber/settings.py`.

`jobber up` sets what it decides itself (ports, addresses, database, secrets) and passes all others on to its services.
"""


def render() -> str:
    """The page."""
    comments = _comments()
    parts = [HEADER]
    for name in CLASSES:
        kind: type[BaseSettings] = getattr(settings, name)
        parts.append(f"\n## {TITLES[name]}\n\n| variable | default | what it is |\n|---|---|---|\n")
        for field, info in kind.model_fields.items():
            if field not in kind.__annotations__:
                continue
            variable = _variable(field, info)
            sentence = comments.get((name, field)) or KNOWN.get(variable)
            if sentence is None:
                raise SystemExit(f"say what {name}.{field} is, in a `#:` comment above it")
            parts.append(f"| `{variable}` | {_default(field, info)} | {sentence} |\n")
    return "".join(parts)


def _variable(field: str, info: FieldInfo) -> str:
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return next(str(choice) for choice in alias.choices if str(choice).isupper())
    return f"JOBBER_{field.upper()}"


def _default(field: str, info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.default
    if value is None or value == ():
        return "none"
    if field == "blobs_url":
        return "`file://` and `.jobber/blobs` in the current folder"
    if (isinstance(value, int) and value >= 1 << 18 and value & (value - 1) == 0) or field == "upload_bytes":
        return _bytes(int(value))
    return f"`{value}`"


def _bytes(value: int) -> str:
    for name, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value % size == 0:
            return f"`{value}` ({value // size} {name})"
    return f"`{value}`"


def _comments() -> dict[tuple[str, str], str]:
    """(class, field) -> the text of the `#:` lines above it."""
    source = (ROOT / "jobber" / "settings.py").read_text()
    lines = source.splitlines()
    found = {}
    for kind in ast.parse(source).body:
        for node in getattr(kind, "body", ()):
            if isinstance(kind, ast.ClassDef) and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text: list[str] = []
                at = node.lineno - 2
                while lines[at].strip().startswith("#:"):
                    text.insert(0, lines[at].strip().removeprefix("#:").strip())
                    at -= 1
                found[kind.name, node.target.id] = " ".join(text)
    return found


def main() -> None:
    """Write, or compare."""
    page = render()
    if "--check" not in sys.argv:
        TARGET.write_text(page)
    elif not TARGET.exists() or TARGET.read_text() != page:
        raise SystemExit("docs/settings.md is out of date")


if __name__ == "__main__":
    main()
