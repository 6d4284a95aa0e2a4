"""What only shows between two requests: races of logins with disabling and with password changes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest

from api import auth as room
from api.audit import OPERATOR, Act
from api.auth import passwords
from api.auth.model import Role, User
from api.auth.passwords import Passwords
from api.auth.service import Auth, WrongCredentials
from api.auth.store import Store
from api.database import open_pool
from api.keys import Keys
from api.migrate import migrate
from jobber.errors import Unavailable
from tests.support.auth import ADMIN, PASSWORD, SECRET

ACT = Act(OPERATOR, "user.test", "user:x")


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    pool = await open_pool(database, name="tests", size=4, timeout=10)
    await migrate(database, "auth", Path(room.__file__ or "").parent / "sql")
    yield Store(pool)
    await pool.close()


@pytest.fixture
def hashes() -> Passwords:
    return Passwords()


async def add(store: Store) -> User:
    user = User(str(uuid.uuid4()), f"{uuid.uuid4().hex}@example.com", Role.MEMBER)
    await store.add_user(user, "old hash", ACT)
    return user


async def test_no_session_for_who_was_disabled_meanwhile(store: Store) -> None:
    user = await add(store)
    await store.disable(user.id, ACT)
    assert await store.open_session(str(uuid.uuid4()), user.id, "old hash", 60, ACT) is None


async def test_no_session_with_a_password_that_was_changed_meanwhile(store: Store) -> None:
    user = await add(store)
    assert await store.open_session(str(uuid.uuid4()), user.id, "old hash", 60, ACT)
    assert await store.change_password(user.id, "old hash", "new hash", ACT)
    assert await store.open_session(str(uuid.uuid4()), user.id, "old hash", 60, ACT) is None
    assert not await store.change_password(user.id, "old hash", "newer hash", ACT)
    assert not await store.replace_hash(user.id, "old hash", "older hash")


async def test_login_while_the_password_is_changed(store: Store, hashes: Passwords) -> None:
    auth = Auth(store, hashes, Keys(SECRET), session_seconds=60)
    await auth.bootstrap(ADMIN, PASSWORD, strict=True)
    found = await store.credentials(ADMIN)
    assert found
    login = asyncio.create_task(auth.login(ADMIN, PASSWORD))
    await asyncio.sleep(0.01)  # Verifying takes 40 ms.
    assert await store.change_password(found[0].id, found[1], "another hash", ACT)
    with pytest.raises(WrongCredentials):
        await login


async def test_expired_sessions_are_swept(store: Store) -> None:
    user = await add(store)
    await store.open_session(str(uuid.uuid4()), user.id, "old hash", 60, ACT)
    await store.open_session(str(uuid.uuid4()), user.id, "old hash", -90_000, ACT)
    assert await store.sweep() == 1
    assert await store.sweep() == 0


async def test_hashing_has_a_bounded_queue(hashes: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 3)
    results = await asyncio.gather(*(hashes.hash("a password") for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == 3
    assert await hashes.hash("a password")


async def test_garbage_for_a_hash_is_a_wrong_password(hashes: Passwords) -> None:
    for stored in ("", "garbage", "$2b$garbage", "$argon2id$v=19$m=19456,t=2,p=1$x$y"):
        assert not (await hashes.verify("a password", stored or None)).right


async def test_old_parameters_are_outdated(hashes: Passwords) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("a password")
    verdict = await hashes.verify("a password", weak)
    assert verdict.right
    assert verdict.outdated
    assert not (await hashes.verify("a password", await hashes.hash("a password"))).outdated


async def test_the_first_admin_is_made_once(store: Store) -> None:
    made = await asyncio.gather(
        *(store.add_first_user(User(str(uuid.uuid4()), f"admin{n}@example.com", Role.ADMIN), "hash", ACT) for n in range(4))
    )
    assert sorted(made) == [False, False, False, True]
    assert len(await store.users()) == 1
