"""Where a request's token is: `Authorization: Bearer …`, the `Authentication` cookie, or a WebSocket's connection_init."""

from collections.abc import Mapping
from datetime import datetime
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

COOKIE = "Authentication"
#: Browsers take a cookie of this name only over https and for the whole host.
SECURE_COOKIE = f"__Host-{COOKIE}"
#: Where the WebSocket handler leaves the payload of connection_init.
CONNECTION_INIT = "jobber.connection_init"


def token_of(connection: HTTPConnection) -> str | None:
    """The token that came with the request, unverified; None when there is none.

    A cookie counts only when the request comes from a page of ours: a browser sends it along from anywhere.
    """
    header = connection.headers.get("authorization")
    if header is not None:
        return _bearer(header)
    payload = connection.scope.get(CONNECTION_INIT)
    if isinstance(payload, Mapping):
        given = _from_payload(payload)
        if given is not None:
            return given
    cookie = connection.cookies.get(SECURE_COOKIE) or connection.cookies.get(COOKIE)
    return cookie if cookie and from_our_page(connection) else None


def from_our_page(connection: HTTPConnection) -> bool:
    """Whether no foreign page sent the request.

    Browsers set Origin on every POST and WebSocket, and say Sec-Fetch-Site besides; only programs, which nobody lures
    anywhere, set neither.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        # `none`: a person opened the address.
        return connection.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower()


def is_https(connection: HTTPConnection) -> bool:
    """Whether the caller speaks https, to us or to a proxy.

    The proxy's header is a claim that anybody can make: only for what makes a cookie stricter.
    """
    return connection.url.scheme in ("https", "wss") or connection.headers.get("x-forwarded-proto", "") == "https"


def session_cookies(connection: HTTPConnection, token: str | None, expires_at: datetime | None = None) -> list[str]:
    """Values of Set-Cookie that let the browser keep the token where no script sees it; None takes it away."""
    secure = is_https(connection)
    made = []
    for name in (SECURE_COOKIE if secure else COOKIE,) if token else (SECURE_COOKIE, COOKIE):
        cookie: SimpleCookie = SimpleCookie({name: token or ""})
        morsel = cookie[name]
        morsel["path"], morsel["samesite"] = "/", "Strict"
        morsel["httponly"] = True
        morsel["secure"] = secure or name == SECURE_COOKIE
        if token and expires_at:
            morsel["expires"] = expires_at.strftime("%a, %d %b %Y %H:%M:%S GMT")
        elif not token:
            morsel["max-age"] = 0
        made.append(morsel.OutputString())
    return made


def _bearer(header: str) -> str:
    """The token of the header; an empty text, which is no good token, for another scheme."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _from_payload(payload: Mapping[str, Any]) -> str | None:
    """The clients' conventions: the header's name in either case, or just the token."""
    for key in ("authorization", "Authorization"):
        if isinstance(payload.get(key), str):
            return _bearer(payload[key])
    for key in ("token", COOKIE):
        if isinstance(payload.get(key), str):
            return str(payload[key])
    return None
