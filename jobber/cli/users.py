"""`jobber users`: the operator's way to users, straight to the database, so that it works before anybody can log in."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from api.audit import OPERATOR
from api.auth.model import Role, User
from api.auth.passwords import Passwords
from api.auth.service import Auth
from api.auth.store import MIGRATIONS, Store
from api.database import open_pool
from api.keys import Keys
from api.migrate import migrate
from jobber.errors import InvalidData, NotFound
from jobber.local.home import Home

#: Seconds that the database is waited for.
TIMEOUT = 10.0

T = TypeVar("T")


def add(data_dir: Path, email: str, role: str, password: str) -> None:
    """Make a user of any role. Raises InvalidData."""
    user = _run(data_dir, lambda auth, _: auth.add_user(OPERATOR, email, password, Role(role)))
    print(f"{user.email} can log in, as {user.role}.")


def show(data_dir: Path) -> None:
    """List the users, oldest first."""
    for user, disabled in _run(data_dir, lambda _, store: store.everybody()):
        print(f"{user.id}  {user.role:<6}  {user.email}{'  (disabled)' if disabled else ''}")


def disable(data_dir: Path, email: str) -> None:
    """Let a user log in no more. Raises NotFound."""

    async def act(auth: Auth, store: Store) -> User:
        return await auth.disable_user(OPERATOR, (await _find(store, email)).id)

    print(f"{_run(data_dir, act).email} cannot log in any more; all sessions and API tokens have ended.")


def change_password(data_dir: Path, email: str, password: str) -> None:
    """Give a user another password. Raises NotFound, InvalidData."""

    async def act(auth: Auth, store: Store) -> User:
        user = await _find(store, email)
        await auth.set_password(OPERATOR, user, password)
        return user

    print(f"{_run(data_dir, act).email} has another password; all sessions and API tokens have ended.")


async def _find(store: Store, email: str) -> User:
    found = None if "\0" in email else await store.credentials(email)
    if found is None:
        raise NotFound(f"There is no user {email}.")
    return found[0]


def _run(data_dir: Path, act: Callable[[Auth, Store], Awaitable[T]]) -> T:
    async def run() -> T:
        dsn = _database(data_dir)
        pool = await open_pool(dsn, name="jobber-users", size=1, timeout=TIMEOUT)
        hashes = Passwords(threads=1)
        try:
            # The first user may be made before the first auth service has run.
            await migrate(dsn, "auth", MIGRATIONS)
            store = Store(pool)
            return await act(Auth(store, hashes, Keys(""), session_seconds=0), store)
        finally:
            hashes.close()
            await pool.close()

    return asyncio.run(run())


def _database(data_dir: Path) -> str:
    """DATABASE_URL, or the database of the running `jobber up`."""
    given = os.environ.get("DATABASE_URL")
    if given:
        return given
    try:
        return str(Home(data_dir.resolve()).recall()["database"])
    except NotFound as fault:
        raise NotFound(f"DATABASE_URL is not set, and no `jobber up` is running on {data_dir}.") from fault


def read_password() -> str:
    """From the terminal, asked twice; else the first line of standard input: never an argument, which `ps` shows."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    import getpass

    password = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != password:
        raise InvalidData("The two passwords differ.")
    return password
