"""What auth does: log in, know whose a token is, make users."""

import logging
import uuid
from collections.abc import Sequence

from api import tokens
from api.auth import passwords
from api.auth.model import Login, Role, Session, User, check_email
from api.auth.passwords import Passwords
from api.auth.store import Store
from jobber.errors import Forbidden, InvalidData, Unauthenticated
from jobber.log import event


class WrongCredentials(Unauthenticated):
    """The e-mail or the password is wrong."""


class Auth:
    """Users and their sessions."""

    def __init__(self, store: Store, hashes: Passwords, secret: str, *, session_seconds: float) -> None:
        self._store = store
        self._passwords = hashes
        self._secret = secret
        self._session_seconds = session_seconds

    async def login(self, email: str, password: str) -> Login:
        """A new session.

        Raises WrongCredentials, after the same time whether the e-mail or the password is wrong; InvalidData for a password
        that is none.
        """
        passwords.check_length(password)
        # PostgreSQL's text holds no NUL: nobody is called so, and asking would fail.
        found = None if "\0" in email else await self._store.credentials(email)
        user, stored = found or (None, None)
        verdict = await self._passwords.verify(password, stored)
        if user is None or stored is None or not verdict.right:
            event("login_failed", "A login was refused.", level=logging.WARNING, user_id=user and user.id)
            raise WrongCredentials
        if verdict.outdated:
            renewed = await self._passwords.hash(password)
            if await self._store.replace_hash(user.id, stored, renewed):
                stored = renewed
        session_id = str(uuid.uuid4())
        moments = await self._store.open_session(session_id, user.id, stored, self._session_seconds)
        if moments is None:
            raise WrongCredentials
        event("logged_in", "A user logged in.", user_id=user.id, session_id=session_id)
        token = tokens.sign(tokens.Claims(user.id, session_id, *moments), self._secret)
        return Login(token, Session(session_id, user, moments[1]))

    async def authenticate(self, token: str) -> Session:
        """Whose token it is.

        Raises Unauthenticated when it is not, or no longer, good.
        """
        claims = tokens.verify(token, self._secret)
        session = await self._store.good_session(claims.session_id, claims.user_id, claims.issued_at, claims.expires_at)
        if session is None:
            raise Unauthenticated
        return session

    async def logout(self, session: Session) -> None:
        """End the session; its token is refused from now on."""
        await self._store.revoke_session(session.id)
        event("logged_out", "A user logged out.", user_id=session.user.id, session_id=session.id)

    async def create_user(self, caller: User, email: str, password: str) -> User:
        """A new MEMBER.

        Raises Forbidden unless the caller is an ADMIN, InvalidData for an e-mail or a password that will not do.
        """
        _admin(caller)
        user = User(str(uuid.uuid4()), check_email(email), Role.MEMBER)
        passwords.check_new(password, user.email)
        await self._store.add_user(user, await self._passwords.hash(password))
        event("user_made", "A user was made.", user_id=user.id, role=user.role, by=caller.id)
        return user

    async def users(self, caller: User) -> list[User]:
        """All users. Raises Forbidden unless the caller is an ADMIN."""
        _admin(caller)
        return await self._store.users()

    async def users_by_id(self, ids: Sequence[str]) -> list[User]:
        """For other services."""
        return await self._store.users_by_id([text for text in ids if _is_uuid(text)])

    async def change_password(self, caller: User, current: str, new: str) -> None:
        """Change the caller's password and end all their sessions, this one too.

        Raises WrongCredentials when `current` is wrong, InvalidData when `new` will not do.
        """
        passwords.check_length(current)
        passwords.check_new(new, caller.email)
        found = await self._store.credentials(caller.email)
        stored = found[1] if found else None
        if stored is None or not (await self._passwords.verify(current, stored)).right:
            raise WrongCredentials("The current password is wrong.")
        if not await self._store.change_password(caller.id, stored, await self._passwords.hash(new)):
            raise WrongCredentials("The password was changed by another request.")
        event("password_changed", "A user changed the password.", user_id=caller.id)

    async def disable(self, caller: User, user_id: str) -> User:
        """Let a user log in no more and end their sessions. Raises Forbidden, NotFound, InvalidData for oneself."""
        _admin(caller)
        if not _is_uuid(user_id):
            raise InvalidData("This is no user's id.")
        if user_id == caller.id:
            raise InvalidData("You cannot disable yourself; another admin can.")
        user = await self._store.disable(user_id)
        event("user_disabled", "A user was disabled.", user_id=user.id, by=caller.id)
        return user

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
        if await self._store.add_first_user(user, await self._passwords.hash(password)):
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


def _admin(caller: User) -> None:
    if caller.role is not Role.ADMIN:
        raise Forbidden


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
