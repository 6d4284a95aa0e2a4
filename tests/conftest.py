"""Fixtures that all tests share: one real PostgreSQL a session, and a fresh database a test, cloned from a template."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator

import psycopg
import pytest

from jobber.local.postgres import EmbeddedPostgres

_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A folder of this session's own, apart from pytest's shared one.

    Every start of pytest makes the shared one private again; a PostgreSQL of another session that is just running, under root
    as a user of its own, would lose its data.
    """
    if not config.option.basetemp:
        folder = tempfile.mkdtemp(prefix="jobber-tests-")
        config.option.basetemp = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A real server for the whole session."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    # No test takes the machine's power away: without fsync a database is made in half the time.
    server.start("fsync=off", "full_page_writes=off")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def clone(postgres: EmbeddedPostgres) -> Callable[[str], str]:
    """`clone(template)` answers the DSN of a new database, made from the database `template` (no sessions on it).

    Databases go with their server: dropping hundreds of them would take longer than making them.
    """

    def make(template: str = "template1") -> str:
        name = f"test_{next(_numbers)}"
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return postgres.dsn.rsplit("/", 1)[0] + f"/{name}"

    return make


@pytest.fixture
def database(clone: Callable[[str], str]) -> str:
    """DSN of an empty database of this test's own."""
    return clone("template1")
