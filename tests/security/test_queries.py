"""SQL is made of constants: nothing that came in is ever part of a statement's text."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Calls whose first argument is a statement.
SENDS = {"execute", "executemany", "copy", "stream"}
#: Statements that come from elsewhere.
REVIEWED = {
    # Files of the checkout, whole.
    ("api/migrate.py", "_apply"),
    ("jobber/transport/postgres_session.py", "_make_schema"),
}


def statements() -> Iterator[tuple[str, str, ast.expr]]:
    for folder in ("api", "jobber", "pipelines", "operators"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "cli" in path.parts:  # Its `execute` submits jobs.
                continue
            for function in ast.walk(ast.parse(path.read_text())):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    for call in ast.walk(function):
                        if (
                            isinstance(call, ast.Call)
                            and isinstance(call.func, ast.Attribute)
                            and call.func.attr in SENDS
                            and call.args
                        ):
                            yield str(path.relative_to(ROOT)), function.name, call.args[0]


def is_constant(node: ast.expr) -> bool:
    """A literal, a CONSTANT, several of them joined, or psycopg's composed statement."""
    match node:
        case ast.Constant():
            return True
        case ast.Name():
            return node.id.isupper() or node.id in ("query", "statement", "sql")  # LiteralString, by mypy
        case ast.Attribute():
            return node.attr.isupper()
        case ast.Subscript():
            return is_constant(node.value)
        case ast.BinOp(op=ast.Add()):
            return is_constant(node.left) and is_constant(node.right)
        case ast.JoinedStr():
            return all(is_constant(part.value) if isinstance(part, ast.FormattedValue) else True for part in node.values)
        case ast.Call(func=ast.Attribute(attr="format", value=ast.Call(func=ast.Attribute(value=ast.Name(id="sql"))))):
            return True
        case ast.Call(func=ast.Attribute(attr="format", value=ast.Call(func=ast.Name(id="SQL")))):
            return True
        case ast.Call(func=ast.Attribute(attr="format", value=ast.Name(id=name))):
            # Of a psycopg.sql.SQL: what a str's `format` makes is no LiteralString, and mypy complains.
            return name.isupper()
        case ast.Call(func=ast.Attribute(attr="encode", value=text)):
            return not isinstance(text, ast.Call) and is_constant(text)
    return False


def test_every_statement_is_made_of_constants() -> None:
    found = list(statements())
    assert len(found) > 100
    assert {(path, name) for path, name, node in found if not is_constant(node)} == REVIEWED


def test_typed_as_literals() -> None:
    """A statement in a variable is a LiteralString, or mypy complains: nobody widens that to str."""
    for path in (ROOT / "api").rglob("*.py"):
        text = path.read_text()
        for name in ("query", "statement"):
            assert f"{name}: str" not in text or "graphql" in str(path), path


@pytest.mark.parametrize(
    ("statement", "constant"),
    [
        ('"SELECT 1"', True),
        ("JOB + 'WHERE id = %s'", True),
        ('f"LISTEN {CHANNEL}"', True),
        ('f"SELECT {name}"', False),
        ('"SELECT " + name', False),
        ('"SELECT {}".format(name)', False),
        ('"SELECT %s" % name', False),
        ("text.encode()", False),
        ("SQL('DROP TABLE {}').format(name)", True),
        ("FIND.format(name)", True),
        ("find.format(name)", False),
        ("FIND.format(name).encode()", False),
    ],
)
def test_the_check_tells_them_apart(statement: str, constant: bool) -> None:
    node = ast.parse(statement, mode="eval").body
    assert is_constant(node) is constant
