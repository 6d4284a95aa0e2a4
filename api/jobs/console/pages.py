"""Pages made of templates: every value is escaped, and the browser runs nothing but the console's own two files."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from jobber.errors import NotFound
from jobber.model import State

if TYPE_CHECKING:  # Imported when somebody looks: a service whose console nobody opens pays nothing for it.
    from jinja2 import Environment
    from markupsafe import Markup

HOME = "/console"
FOLDER = Path(__file__).parent
#: What is served, and as what.
FILES = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
#: No inline script or style, nothing from elsewhere, in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    # A form's Origin, by which it is known as ours, is `null` with no-referrer.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
#: For a year: the address changes with the content.
FOREVER = "public, max-age=31536000, immutable"
#: States by what people look for.
FILTERS: Mapping[str, tuple[State, ...]] = {
    "active": (State.QUEUED, State.VALIDATING, State.RUNNING, State.PAUSED, State.CANCELING),
    "succeeded": (State.SUCCEEDED,),
    "partial": (State.PARTIAL,),
    "failed": (State.FAILED,),
    "canceled": (State.CANCELED,),
}


def render(template: str, **values: Any) -> str:
    """The template's text."""
    return _environment().get_template(template).render(values)


def page(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """The template as a page."""
    return HTMLResponse(render(template, **values), status, {**HEADERS, **(headers or {})})


async def asset(request: Request) -> Response:
    """One of FILES. Raises NotFound."""
    name = str(request.path_params["name"])
    if name not in FILES:
        raise NotFound
    body, version = _file(name)
    tag = f'"{version}"'
    # Another replica's version, while services are exchanged: to be asked for again.
    headers = {"cache-control": FOREVER if request.query_params.get("v") == version else "no-cache", "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=FILES[name], headers=headers)


@cache
def _file(name: str) -> tuple[bytes, str]:
    body = (FOLDER / "static" / name).read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:16]


def address_of(name: str) -> str:
    """Where one of FILES is, as it is now."""
    return f"{HOME}/static/{name}?v={_file(name)[1]}"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        rate=rate,
        seconds=seconds,
        share=share,
        iso=iso,
        clock=clock,
        ago=ago,
        short=short,
        word=word,
        visible=visible,
    )
    made.globals.update(home=HOME, static=address_of, filters=FILTERS)
    return made


# How values are told.


def number(value: int | float | None) -> str:
    """1,234,567."""
    return "-" if value is None else f"{value:,.0f}"


def rate(value: float) -> str:
    """Records a second: two digits that count, since nobody reads more of them."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def seconds(value: float) -> str:
    """A span as people say it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def share(part: int, whole: int | None) -> float:
    """Hundredths of the whole, with two decimals; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0


def iso(moment: datetime) -> str:
    """For machines."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """For people; the page's script tells it in their own time zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(moment: datetime) -> str:
    """How long ago it was; the page's script keeps it true."""
    past = max((datetime.now(UTC) - moment).total_seconds(), 0)
    for length, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if past >= length:
            return f"{past // length:.0f} {name} ago"
    return "just now"


def short(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def visible(text: str) -> "Markup":
    """The text with a name for each character that would not be seen: a direction override makes a record look like another."""
    from markupsafe import Markup, escape

    found = Markup()
    for hidden, some in groupby(text, lambda character: not character.isprintable() and character not in "\n\t"):
        if hidden:
            found += Markup("").join(
                Markup('<span class="hidden">U+{:04X}</span>').format(ord(character)) for character in some
            )
        else:
            found += escape("".join(some))
    return found


def word(state: State) -> str:
    """The state's name as a word."""
    return str(state).capitalize()
