"""What auth does: log in, know whose a token is, make users. API tokens are made in api_tokens.py."""

import logging
import uuid
from collections.abc import Sequence

from api import audit, tokens
from api.audit import OPERATOR, Act, Actor
from api.auth import metrics, passwords
from api.auth.limiter import Limiter
from api.auth.model import Login, Role, Session, User, check_email
from api.auth.passwords import Passwords
from api.auth.store import Store
from api.auth.token_store import TokenStore
from api.keys import Keys
from api.scopes import ADMIN_READ, ADMIN_WRITE
from jobber.errors import Forbidden, InvalidData, RateLimited, Unauthenticated
from jobber.log import event


class WrongCredentials(Unauthenticated):
    """The e-mail or the password is wrong."""


class Auth:
    """Users and their sessions."""

    def __init__(
        self,
        store: Store,
        hashes: Passwords,
        keys: Keys,
        *,
        session_seconds: float,
        limiter: Limiter | None = None,
        api_tokens: TokenStore | None = None,
    ) -> None:
        self._store = store
        self._passwords = hashes
        self._keys = keys
        self._session_seconds = session_seconds
        self._limiter = limiter
        self._api_tokens = api_tokens

    async def login(self, email: str, password: str, address: str = "") -> Login:
        """A new session.

        Raises WrongCredentials, after the same time whether the e-mail or the password is wrong; RateLimited when too many
        logins of this account or from this address failed; InvalidData for a password that is none.
        """
        passwords.check_length(password)
        user, stored = await self._right(email, password, address) or (None, None)
        if user is None or stored is None:
            raise WrongCredentials
        session_id = str(uuid.uuid4())
        act = Act(Actor(user.id, user.email), "user.login", f"user:{user.id}", {"address": address})
        moments = await self._store.open_session(session_id, user.id, stored, self._session_seconds, act)
        if moments is None:
            raise WrongCredentials
        metrics.LOGINS.labels("ok").inc()
        event("logged_in", "A user logged in.", user_id=user.id, session_id=session_id)
        token = tokens.sign(tokens.Claims(user.id, session_id, *moments), self._keys)
        return Login(token, user, moments[1])

    async def _right(self, email: str, password: str, address: str) -> tuple[User, str] | None:
        """The user and the password's hash, when the password is right. Raises RateLimited."""
        if self._limiter:
            try:
                await self._limiter.attempt(email, address)
            except RateLimited:
                metrics.LOGINS.labels("limited").inc()
                event("login_limited", "Too many logins failed.", level=logging.WARNING, address=address)
                raise
        # PostgreSQL's text holds no NUL: nobody is called so, and asking would fail.
        found = None if "\0" in email else await self._store.credentials(email)
        user, stored = found or (None, None)
        verdict = await self._passwords.verify(password, stored)
        if user is None or stored is None or not verdict.right:
            metrics.LOGINS.labels("refused").inc()
            event("login_failed", "A login was refused.", level=logging.WARNING, user_id=user and user.id, address=address)
            if user:
                act = Act(Actor(None, "unknown"), "user.login_failed", f"user:{user.id}", {"address": address})
                await self._store.note(act)
            return None
        if self._limiter:
            await self._limiter.succeeded(email, address)
        if verdict.outdated:
            renewed = await self._passwords.hash(password)
            if await self._store.replace_hash(user.id, stored, renewed):
                stored = renewed
        return user, stored

    async def authenticate(self, token: str) -> Session:
        """Whose token it is.

        Raises Unauthenticated when it is not, or no longer, good.
        """
        if self._api_tokens and tokens.is_api_token(token):
            session = await self._api_tokens.good(tokens.api_token_hash(token))
        else:
            claims = tokens.verify(token, self._keys)
            session = await self._store.good_session(claims.session_id, claims.user_id, claims.issued_at, claims.expires_at)
        if session is None:
            raise Unauthenticated
        return session

    async def logout(self, session: Session) -> None:
        """End the session; its token is refused from now on."""
        check_person(session)
        await self._store.revoke_session(session.id, Act(actor_of(session), "user.logout", f"user:{session.user.id}"))
        event("logged_out", "A user logged out.", user_id=session.user.id, session_id=session.id)

    async def create_user(self, caller: Session, email: str, password: str) -> User:
        """A new MEMBER.

        Raises Forbidden unless the caller is an ADMIN, InvalidData for an e-mail or a password that will not do.
        """
        check_admin(caller, ADMIN_WRITE)
        return await self.add_user(actor_of(caller), email, password, Role.MEMBER)

    async def add_user(self, actor: Actor, email: str, password: str, role: Role) -> User:
        """A new user of any role: for the operator. Raises InvalidData for an e-mail or a password that will not do."""
        user = User(str(uuid.uuid4()), check_email(email), role)
        passwords.check_new(password, user.email)
        act = Act(actor, "user.create", f"user:{user.id}", {"email": user.email, "role": role.value})
        await self._store.add_user(user, await self._passwords.hash(password), act)
        event("user_made", "A user was made.", user_id=user.id, role=user.role, by=actor.id or actor.name)
        return user

    async def users(self, caller: Session) -> list[User]:
        """All users. Raises Forbidden unless the caller is an ADMIN."""
        check_admin(caller, ADMIN_READ)
        return await self._store.users()

    async def visible(self, caller: Session, user_id: str) -> list[User]:
        """The user of that id, when it is the caller, or the caller is an ADMIN."""
        admin = caller.user.role is Role.ADMIN and (caller.scopes is None or ADMIN_READ in caller.scopes)
        return await self.users_by_id([user_id]) if admin or user_id == caller.user.id else []

    async def users_by_id(self, ids: Sequence[str]) -> list[User]:
        """For other services."""
        return await self._store.users_by_id([text for text in ids if is_uuid(text)])

    async def change_password(self, caller: Session, current: str, new: str, address: str = "") -> None:
        """Change the caller's password and end all their sessions, this one too, and their API tokens.

        Raises WrongCredentials when `current` is wrong, RateLimited when it was wrong too often, InvalidData when `new` will
        not do.
        """
        check_person(caller)
        passwords.check_length(current)
        passwords.check_new(new, caller.user.email)
        found = await self._right(caller.user.email, current, address)
        if found is None:
            raise WrongCredentials("The current password is wrong.")
        act = Act(actor_of(caller), "user.password_change", f"user:{caller.user.id}")
        if not await self._store.change_password(caller.user.id, found[1], await self._passwords.hash(new), act):
            raise WrongCredentials("The password was changed by another request.")
        event("password_changed", "A user changed the password.", user_id=caller.user.id)

    async def set_password(self, actor: Actor, user: User, new: str) -> None:
        """Give the user another password, as the operator; all their sessions and API tokens end. Raises InvalidData."""
        passwords.check_new(new, user.email)
        act = Act(actor, "user.password_change", f"user:{user.id}")
        await self._store.change_password(user.id, None, await self._passwords.hash(new), act)
        event("password_changed", "The operator changed a password.", user_id=user.id)

    async def disable(self, caller: Session, user_id: str) -> User:
        """Let a user log in no more and end their sessions. Raises Forbidden, NotFound, InvalidData for oneself."""
        check_admin(caller, ADMIN_WRITE)
        if not is_uuid(user_id):
            raise InvalidData("This is no user's id.")
        if user_id == caller.user.id:
            raise InvalidData("You cannot disable yourself; another admin can.")
        return await self.disable_user(actor_of(caller), user_id)

    async def disable_user(self, actor: Actor, user_id: str) -> User:
        """The same, as the operator. Raises NotFound."""
        user = await self._store.disable(user_id, Act(actor, "user.disable", f"user:{user_id}"))
        event("user_disabled", "A user was disabled.", user_id=user.id, by=actor.id or actor.name)
        return user

    async def audit(self, caller: Session, most: int, before: int | None) -> list[audit.Entry]:
        """The latest entries of this room's audit trail. Raises Forbidden unless the caller is an ADMIN."""
        check_admin(caller, ADMIN_READ)
        return await self._store.audit(most, before)

    async def bootstrap(self, email: str, password: str | None, *, strict: bool) -> None:
        """Make the first ADMIN when there is no user at all.

        Raises InvalidData for a password that will not do, when `strict`.
        """
        if await self._store.has_users():
            return
        if password is None:
            message = "There is no user yet, and JOBBER_ADMIN_PASSWORD is not set: nobody can log in."
            event("no_users", message, level=logging.WARNING)
            return
        user = User(str(uuid.uuid4()), check_email(email), Role.ADMIN)
        try:
            passwords.check_new(password, user.email)
        except InvalidData as fault:
            if strict:
                raise InvalidData(f"JOBBER_ADMIN_PASSWORD: {fault.message}") from fault
            event("weak_password", f"JOBBER_ADMIN_PASSWORD: {fault.message}", level=logging.WARNING)
        act = Act(OPERATOR, "user.create", f"user:{user.id}", {"email": user.email, "role": user.role.value})
        if await self._store.add_first_user(user, await self._passwords.hash(password), act):
            event("admin_made", "The first admin was made.", user_id=user.id, email=user.email)

    async def sweep(self) -> None:
        """Forget what has expired."""
        gone = await self._store.sweep()
        if gone:
            event("swept", "Expired sessions were deleted.", sessions=gone)

    async def ready(self) -> bool:
        """Whether requests can be served; raises Unavailable when not."""
        await self._store.ping()
        return True


def actor_of(session: Session) -> Actor:
    """Who acts, for the audit trail."""
    return Actor(session.user.id, session.user.email, session.id if session.scopes is not None else None)


def check_admin(caller: Session, scope: str) -> None:
    """Raises Forbidden unless the caller is an ADMIN; an API token needs the scope, too."""
    if caller.user.role is not Role.ADMIN:
        raise Forbidden
    if caller.scopes is not None and scope not in caller.scopes:
        raise Forbidden(f"This API token lacks the scope {scope}.")


def check_person(caller: Session) -> None:
    """Raises Forbidden for an API token: with one, nobody may make another or change the password that stands behind it."""
    if caller.scopes is not None:
        raise Forbidden("An API token cannot do this; log in with your password.")


def is_uuid(text: str) -> bool:
    """Whether it is an id as we write them."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
