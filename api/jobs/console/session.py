"""Signing in and out, and who is asking: the same cookie, the same rights and the same limits as GraphQL has."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from api.addresses import client_address
from api.graphql.tokens import session_cookies, token_of
from api.http import headers_of, status_of
from api.jobs.console import pages
from api.jobs.context import Context, Services
from api.rates import Rates
from jobber.errors import Forbidden, InvalidData, JobberError, Unauthenticated

ContextOf = Callable[[HTTPConnection], Awaitable[Context]]
Handler = Callable[[Request, Context], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]

#: Bytes of a form: its longest field is a mapping of columns.
FORM_BYTES = 64 << 10
FORM_FIELDS = 100
SIGN_IN = f"{pages.HOME}/sign-in"


def guarded(context_of: ContextOf, handler: Handler) -> Endpoint:
    """The handler, for who is signed in; what it raises becomes a page that says so."""

    async def answer(request: Request) -> Response:
        context: Context | None = None
        try:
            if request.method == "POST":
                check_own_form(request)
            elif _from_elsewhere(request):
                return pages.page("elsewhere.html", who=None)
            context = await context_of(request)
            _ = context.who
            return await handler(request, context)
        except Unauthenticated:
            return _to_sign_in(request)
        except JobberError as fault:
            return failed(context, fault)

    return answer


def failed(context: Context | None, fault: JobberError) -> Response:
    """A page that says what is wrong."""
    status = status_of(fault)
    return pages.page("failed.html", status, headers_of(fault), who=context and context.caller, fault=fault, code=status)


def sign_in_routes(services: Services, rates: Rates) -> tuple[Endpoint, Endpoint]:
    """The sign-in form and sign-out."""

    def form(request: Request, status: int = 200, **values: Any) -> Response:
        given = {"who": None, "email": "", "fault": "", "next": _inside(request.query_params.get("next", ""))} | values
        return pages.page("sign_in.html", status, **given)

    async def sign_in(request: Request) -> Response:
        if request.method != "POST":
            return form(request)
        given: dict[str, str] = {}
        try:
            # A foreign page could sign its visitor in as somebody else.
            check_own_form(request)
            address = client_address(request, services.settings.trusted_proxies)
            rates.take(None, address)
            given = await form_of(request)
            token, expires = await services.identity.login(given.get("email", ""), given.get("password", ""), address)
        except JobberError as fault:
            kept = {"email": given.get("email", ""), "next": _inside(given.get("next", ""))}
            return form(request, status_of(fault), fault=fault.message, **kept)
        answer = RedirectResponse(_inside(given.get("next", "")), 303)
        for value in session_cookies(request, token, expires):
            answer.headers.append("set-cookie", value)
        return answer

    async def sign_out(request: Request) -> Response:
        try:
            check_own_form(request)
            token = token_of(request)
            if token:
                await services.identity.logout(token)
        except Unauthenticated:
            pass  # It had ended already.
        except JobberError as fault:
            return failed(None, fault)
        answer = RedirectResponse(SIGN_IN, 303)
        for value in session_cookies(request, None):
            answer.headers.append("set-cookie", value)
        return answer

    return sign_in, sign_out


def check_own_form(request: Request) -> None:
    """Raises Forbidden unless the browser says that a page of ours sends the form: beside SameSite, against forged requests.

    Stricter than GraphQL, which programs use too: what says nothing about where it comes from is refused.
    """
    origin = request.headers.get("origin")
    if origin is not None:
        own = urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    else:
        own = request.headers.get("sec-fetch-site") == "same-origin"
    if not own:
        raise Forbidden("This form was not sent by a page of the console; open the console and try again.")


async def form_of(request: Request) -> dict[str, str]:
    """The form's fields; of several of a name the last. Raises InvalidData."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidData("Send the form as application/x-www-form-urlencoded.")
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > FORM_BYTES:
                raise InvalidData(f"The form has more than {FORM_BYTES:,} bytes.")
    except ClientDisconnect as fault:
        raise InvalidData("The form ended before all of it was there.") from fault
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS))
    except ValueError as fault:
        raise InvalidData("The form is malformed.") from fault


def _to_sign_in(request: Request) -> Response:
    """Where a page was asked for, it comes back after signing in."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    wanted = f"?next={quote(back, safe='')}" if request.method == "GET" and back != pages.HOME else ""
    return RedirectResponse(SIGN_IN + wanted, 303)


def _inside(path: str) -> str:
    """The path, when it is one of the console's: nobody is led elsewhere."""
    inside = path == pages.HOME or path.startswith((f"{pages.HOME}/", f"{pages.HOME}?"))
    return path if inside and path.isprintable() and "\\" not in path else pages.HOME


def _from_elsewhere(request: Request) -> bool:
    """Whether a link on a foreign page led here: the browser keeps the strict cookie back until the page itself asks."""
    return request.headers.get("sec-fetch-mode") == "navigate" and request.headers.get("sec-fetch-site") in (
        "cross-site",
        "same-site",
    )
