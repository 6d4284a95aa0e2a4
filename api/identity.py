"""Who is calling: what the jobs service asks of auth at each request."""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from api import tokens
from api.audit import Actor
from api.keys import Keys
from api.scopes import JOBS_READ, JOBS_WRITE
from api.sharing import Shared
from jobber.credentials import Tls, service_token
from jobber.errors import Forbidden, InvalidData, JobberError, RateLimited, Unauthenticated, Unavailable
from jobber.log import event
from protos import client
from protos.jobber.auth.v1 import auth_pb2
from protos.jobber.auth.v1.auth_pb2_grpc import AuthServiceStub

if TYPE_CHECKING:  # The stubs' alone.
    from protos.jobber.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub

#: Seconds that auth is given; it answers in a millisecond.
DEADLINE = 3.0
#: A password is hashed for it, one after the other.
LOGIN_DEADLINE = 10.0
#: While it does not answer, a token that is known is not kept waiting so long again.
SHORT_DEADLINE = 0.1
#: Seconds for which auth counts as slow after it missed a deadline.
SLOW_FOR = 10.0
#: Seconds for which an answer is good enough for subscriptions that run already.
RECHECK = 1.0
#: Tokens remembered for when auth is away; some 500 bytes each.
MAX_KNOWN = 10_000

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling."""

    #: Lowercase UUID.
    id: str
    email: str
    #: ADMIN, MEMBER or VIEWER.
    role: str
    #: Until when, by the monotonic clock, the token is good if auth cannot be asked; None: an API token without an end.
    good_until: float | None
    #: What an API token may do (api.scopes); None: a login.
    scopes: frozenset[str] | None = None
    #: The API token's id.
    token_id: str | None = None

    @property
    def sees(self) -> str | None:
        """Whose jobs the caller may see: their own; an ADMIN everybody's (None). Raises Forbidden."""
        self.check(JOBS_READ)
        return None if self.role == "ADMIN" else self.id

    def check_writes(self) -> None:
        """Raises Forbidden when the role, or the API token, only lets the caller look."""
        if self.role not in ("ADMIN", "MEMBER"):
            raise Forbidden("A viewer may look at jobs, not submit or change them, nor upload files.")
        self.check(JOBS_WRITE)

    def check(self, scope: str) -> None:
        """Raises Forbidden for an API token without the scope."""
        if self.scopes is not None and scope not in self.scopes:
            raise Forbidden(f"This API token lacks the scope {scope}.")

    @property
    def actor(self) -> Actor:
        """For the audit trail."""
        return Actor(self.id, self.email, self.token_id)


class Identity:
    """Checks tokens: the signature here, and at each request in auth whether the session still counts.

    Requests that come with a token while auth is asked about it share the next question (api.sharing). The signature of a text
    that auth called good is not computed again, until the keys change.

    While auth does not answer, a token that auth called good goes on working for as long as auth said, whatever this machine's
    clock says (I14): logging out and disabling users then take effect when auth is back.
    """

    def __init__(self, addresses: str, jwt_secret: str, tls: Tls | None = None, keys: Keys | None = None) -> None:
        self._keys = keys or Keys(jwt_secret)
        self._channel = client.aio_channel(addresses, tls)
        self._stub: AuthServiceAsyncStub = AuthServiceStub(self._channel)
        self._metadata = client.credential(service_token(jwt_secret))
        #: By the token's digest: who it is, and by which keys it was signed.
        self._known: OrderedDict[bytes, tuple[Caller, int]] = OrderedDict()
        self._asking = Shared(self._ask)
        self._rechecks: dict[str, tuple[float, asyncio.Future[Caller]]] = {}
        self._slow_until = 0.0
        self._away = False

    async def caller(self, token: str) -> Caller:
        """Whose token it is.

        Raises Unauthenticated when it is not, or no longer, good; Unavailable when only auth could say.
        """
        known = self._known.get(_digest(token))
        # API tokens only auth's database knows.
        if (known is None or known[1] != self._keys.epoch) and not tokens.is_api_token(token):
            tokens.verify(token, self._keys)
        return await self._asking.get(token)

    async def _ask(self, token: str) -> Caller:
        """Ask auth. Raises as `caller` does."""
        key, epoch = _digest(token), self._keys.epoch
        known, _ = self._known.get(key, (None, 0))
        deadline = SHORT_DEADLINE if known and time.monotonic() < self._slow_until else DEADLINE
        asked = time.monotonic()
        try:
            answer = await self._stub.Authenticate(
                auth_pb2.AuthenticateRequest(token=token), metadata=self._metadata, timeout=deadline
            )
        except aio.AioRpcError as fault:
            if fault.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._known.pop(key, None)
                raise Unauthenticated from fault
            self._note(fault)
            if fault.code() in _AWAY and known and (known.good_until is None or known.good_until > time.monotonic()):
                return known
            raise Unavailable("The auth service does not answer; try again in a moment.") from fault
        if self._away:
            self._away = False
            event("found", "The auth service answers again.", what="auth")
        self._slow_until = 0.0
        caller = Caller(
            answer.user.id,
            answer.user.email,
            auth_pb2.Role.Name(answer.user.role).removeprefix("ROLE_"),
            asked + answer.good_for.ToTimedelta().total_seconds() if answer.HasField("expires_at") else None,
            frozenset(answer.api_token.scopes) if answer.HasField("api_token") else None,
            answer.api_token.id or None,
        )
        self._known[key] = caller, epoch
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return caller

    async def login(self, email: str, password: str, address: str) -> tuple[str, datetime]:
        """A new session's token, and when it ends.

        Raises Unauthenticated when the e-mail or the password is wrong, RateLimited, InvalidData, Unavailable.
        """
        request = auth_pb2.LoginRequest(email=email, password=password, address=address)
        try:
            answer = await self._stub.Login(request, metadata=self._metadata, timeout=LOGIN_DEADLINE)
        except aio.AioRpcError as fault:
            raise _refused(fault) from fault
        return answer.token, answer.expires_at.ToDatetime(UTC)

    async def logout(self, token: str) -> None:
        """End the token's session. Raises Unauthenticated when it has ended, Forbidden for an API token, Unavailable."""
        try:
            await self._stub.Logout(auth_pb2.LogoutRequest(token=token), metadata=self._metadata, timeout=DEADLINE)
        except aio.AioRpcError as fault:
            raise _refused(fault) from fault

    def knows(self, token: str) -> str | None:
        """The id of the caller that auth last said the token is; None when it was not asked."""
        known = self._known.get(_digest(token))
        return known[0].id if known else None

    async def recheck(self, token: str) -> Caller:
        """As `caller`, for who is followed: one question in RECHECK seconds, however many ask about the token.

        Raises Unauthenticated, Unavailable.
        """
        now = time.monotonic()
        asked = self._rechecks.get(token)
        if asked is None or now - asked[0] >= RECHECK:
            for old, (moment, _) in list(self._rechecks.items()):
                if now - moment >= 2 * RECHECK:
                    del self._rechecks[old]
            asked = self._rechecks[token] = (now, asyncio.ensure_future(self.caller(token)))
        # Shielded: one follower that leaves must not end the question of the others.
        return await asyncio.shield(asked[1])

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _note(self, fault: aio.AioRpcError) -> None:
        if fault.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._slow_until = time.monotonic() + SLOW_FOR
        if not self._away:
            self._away = True
            reason = f"{fault.code().name}: {fault.details()}"
            event("unavailable", "The auth service does not answer.", level=logging.WARNING, what="auth", reason=reason)


def _refused(fault: aio.AioRpcError) -> JobberError:
    """What auth said, as it was raised there."""
    said = fault.details()
    if fault.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return RateLimited(said)
    refusals: Mapping[grpc.StatusCode, type[JobberError]] = {
        grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidData,
        grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    }
    kind = refusals.get(fault.code())
    return kind(said) if kind else Unavailable("The auth service does not answer; try again in a moment.")


def _digest(token: str) -> bytes:
    """What is kept of a token. A header may hold anything, lone surrogates too."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
