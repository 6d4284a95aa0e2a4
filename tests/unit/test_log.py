"""Logs: shape, secrets, and the list of action names."""

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobber import log

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    log.configure("tests", "INFO", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
    log._hidden.clear()


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_line_an_event(lines: io.StringIO) -> None:
    log.event("ready", "It\nserves.", port=1, name="x", parts=["a", None, 1.5], when={"a": True})
    (line,) = read(lines)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "service": "tests",
        "action": "ready",
        "message": "It\nserves.",
        "port": 1,
        "name_": "x",
        "parts": ["a", None, 1.5],
        "when": {"a": True},
    }


def test_people_get_text(lines: io.StringIO) -> None:
    stream = io.StringIO()
    log.configure("tests", "INFO", stream, "text")
    log.event("ready", "It\nserves \x1b[31m.", port=1, jwt_secret="canary")
    log.event("bug", "It failed.", level=logging.ERROR, error=RuntimeError("outer"))
    first, second, cause = stream.getvalue().splitlines()
    assert first[8:] == " INFO tests ready: It\\nserves \\x1b[31m. (port=1, jwt_secret=***)"
    assert second[8:] == " ERROR tests bug: It failed."
    assert cause == "RuntimeError: outer"


def test_a_terminal_is_for_people_and_all_else_is_json() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    before = list(logging.getLogger().handlers)
    shapes = {}
    for form in ("auto", "json", "text"):
        for stream in (Terminal(), io.StringIO()):
            log.configure("tests", "INFO", stream, form)
            log.event("ready", "It serves.")
            shapes[form, stream.isatty()] = stream.getvalue()[0] == "{"
    logging.getLogger().handlers[:] = before
    assert shapes == {
        **{("auto", True): False, ("auto", False): True},
        **{("json", True): True, ("json", False): True},
        **{("text", True): False, ("text", False): False},
    }


def test_errors_come_with_their_cause(lines: io.StringIO) -> None:
    try:
        try:
            raise ValueError("postgresql://u:secret@h/d")
        except ValueError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError as fault:
        log.event("bug", "It failed.", level=logging.ERROR, error=fault)
    (line,) = read(lines)
    assert "RuntimeError: outer" in line["error"]
    assert "ValueError" in line["error"]
    assert "secret" not in lines.getvalue()


def test_libraries_are_heard_as_such(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("careful, %s", "you")
    logging.getLogger("uvicorn.error").info("Started server process")
    (line,) = read(lines)
    assert (line["action"], line["logger"], line["message"]) == ("library", "some.library", "careful, you")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:canary@host:5432/name",
        "postgresql://user:c@n:canary@host/name",
        "pulsar+ssl://u:canary@h",
        "host=h password=canary user=u",
        "password = 'a canary'",
        "Authorization: Bearer canary",
        "token eyJcanary.eyJcanary.canary here",
        "the secret is hidden-canary",
    ],
)
def test_secrets_never_get_through(lines: io.StringIO, text: str) -> None:
    log.hide("hidden-canary", "short")
    log.event("ready", text, what=text, more=[text], deep={"x": text})
    logging.getLogger("library").error("failed: %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError as fault:
        log.event("bug", "It failed.", error=fault)
    assert "canary" not in lines.getvalue()
    assert len(read(lines)) == 3


def test_secret_fields_are_not_written(lines: io.StringIO) -> None:
    log.event("ready", "x", database_url="canary", jwt_secret="canary", more={"Password": "canary", "api_token": "canary"})
    assert "canary" not in lines.getvalue()


def test_what_is_not_secret_stays(lines: io.StringIO) -> None:
    text = "https://host:3000/graphql?x=a@b and user@example.com at 10:30"
    log.event("ready", text)
    assert read(lines)[0]["message"] == text


def test_every_action_in_the_source_is_documented() -> None:
    """`event("…")` with a name that ACTIONS does not have is a name that no alert knows."""
    used: dict[str, str] = {}
    for room in ("api", "jobber", "pipelines", "operators"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    if called == "event":
                        used[str(node.args[0].value)] = str(path.relative_to(ROOT))
    assert {name: where for name, where in used.items() if name not in log.ACTIONS} == {}
    # `library` is what others log.
    assert set(log.ACTIONS) - set(used) == {"library"}


def test_action_names_are_pinned() -> None:
    """Alerts and scripts rely on them: a name may be added, not changed."""
    pinned = """
        starting waiting found migrating migrated ready stopping stopped failed bug unavailable library
        admin_made user_made logged_in login_failed logged_out password_changed user_disabled no_users weak_password
    """
    assert set(pinned.split()) <= set(log.ACTIONS)
