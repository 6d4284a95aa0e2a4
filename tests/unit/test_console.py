"""The console's smaller parts: what a form asks for, what texts look like, who is told what on a stream."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from api.jobs.console import pages
from api.jobs.console.live import counted
from api.jobs.console.load import arguments, arguments_of, options_of
from api.jobs.following import Following
from jobber.errors import InvalidData, Unauthenticated
from jobber.job import Args, JobType
from jobber.jobtypes.load_products import LoadProducts


def test_what_is_filled_in_becomes_options() -> None:
    given = {
        "type": "LoadProducts",
        "mode": "UPSERT",
        "keys": " name, category ,",
        "delimiter": "TAB",
        "encoding": "",
        "mapping": "price = cena\n\nname=nazwa = x\n",
        "max_errors": " 10 ",
        "dry_run": "1",
        "priority": "HIGH",
    }
    assert options_of(given) == {
        "mode": "UPSERT",
        "keys": ["name", "category"],
        "delimiter": "\t",
        "mapping": {"price": "cena", "name": "nazwa = x"},
        "max_errors": 10,
        "dry_run": True,
        "priority": "HIGH",
    }
    assert options_of({}) == {}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"max_errors": "-1"}, "whole number"),
        ({"max_errors": "١٢"}, "whole number"),
        ({"max_rows_per_second": "9" * 30}, "whole number"),
        ({"mode": "REPLACE"}, "mode is one of"),
        ({"mapping": "price"}, "one a line"),
        ({"mapping": "= cena"}, "one a line"),
    ],
)
def test_what_cannot_be_options_says_why(given: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidData, match=why):
        options_of(given)


class Catalog(Args, frozen=True):
    supplier: str
    vat: float = 0.2
    gross: bool = False
    #: No plain value: over GraphQL alone.
    columns: tuple[str, ...] = ()


def test_a_job_types_own_arguments_are_fields() -> None:
    kind = JobType("Catalog", (), "", "1", Catalog)
    assert arguments(kind) == [
        {"name": "supplier", "input": "text", "required": True, "default": ""},
        {"name": "vat", "input": "number", "required": False, "default": "0.2"},
        {"name": "gross", "input": "checkbox", "required": False, "default": ""},
    ]
    given = {"arg.Catalog.supplier": "Harbour", "arg.Catalog.vat": "0.1", "arg.Catalog.gross": "1", "arg.Other.supplier": "x"}
    assert arguments_of(kind, given) == {"supplier": "Harbour", "vat": 0.1, "gross": True}
    assert arguments(JobType("LoadProducts", (), "", "1", LoadProducts)) == []


def test_what_would_not_be_seen_has_a_name() -> None:
    assert pages.visible("a\tb\n<b>") == "a\tb\n&lt;b&gt;"
    hidden = pages.visible("x\u202ey\x00\x1b\u200b")
    assert hidden == "x" + "y".join(
        [
            '<span class="hidden">U+202E</span>',
            "".join(f'<span class="hidden">U+{code}</span>' for code in ("0000", "001B", "200B")),
        ]
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0421, "42 ms"), (9.04, "9.0 s"), (61.4, "1 min 01 s"), (3599.6, "1 h 00 min"), (93_784, "26 h 03 min")],
)
def test_spans(seconds: float, told: str) -> None:
    assert pages.seconds(seconds) == told


@pytest.mark.parametrize(
    ("past", "told"), [(-5, "just now"), (59, "just now"), (61, "1 min ago"), (7_300, "2 h ago"), (200_000, "2 d ago")]
)
def test_how_long_ago(past: int, told: str) -> None:
    assert pages.ago(datetime.now(UTC) - timedelta(seconds=past)) == told


async def one_event() -> AsyncGenerator[bytes, None]:
    yield b"event: parts\n\n"


async def ended_session() -> AsyncGenerator[bytes, None]:
    yield b"event: parts\n\n"
    raise Unauthenticated


async def test_streams_count_as_subscriptions_and_say_why_they_end() -> None:
    following = Following(1)
    context: Any = SimpleNamespace(who=SimpleNamespace(id="me"), services=SimpleNamespace(following=following))
    assert b"".join([event async for event in counted(context, one_event())]) == b"event: parts\n\n"
    with following.one_more("me"):
        refused = b"".join([event async for event in counted(context, one_event())])
    assert refused.startswith(b"event: refused\ndata: You have 1 open subscriptions already")
    told = [event async for event in counted(context, ended_session())]
    assert told == [b"event: parts\n\n", b"event: signed-out\ndata: \n\n"]
    with following.one_more("me"):
        pass  # What ended does not count any more.
