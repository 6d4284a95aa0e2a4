"""Migrations on a real database: order, replicas, kills."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from api import migrate as module
from api.migrate import MigrationFault, migrate, read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sql"
    made.mkdir()
    (made / "0001_first.sql").write_text("CREATE TABLE shop.a (n int); INSERT INTO shop.a VALUES (1);\n-- 100 % ümläut")
    (made / "0002_second.sql").write_text("ALTER TABLE shop.a ADD COLUMN m int DEFAULT 2;")
    return made


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


async def test_applies_in_order_and_once(database: str, folder: Path) -> None:
    for _ in range(2):
        await migrate(database, "shop", folder)
        assert rows(database, "SELECT n, m FROM shop.a") == [(1, 2)]
    (folder / "0003_third.sql").write_text("INSERT INTO shop.a VALUES (3, 3);")
    await migrate(database, "shop", folder)
    assert rows(database, "SELECT n, m FROM shop.a ORDER BY n") == [(1, 2), (3, 3)]
    assert rows(database, "SELECT name FROM shop.migrations ORDER BY number") == [
        ("0001_first.sql",),
        ("0002_second.sql",),
        ("0003_third.sql",),
    ]


async def test_a_failing_file_leaves_nothing(database: str, folder: Path) -> None:
    (folder / "0003_third.sql").write_text("CREATE TABLE shop.b (); SELECT 1/0;")
    with pytest.raises(MigrationFault, match=r"0003_third\.sql cannot be applied: .*division by zero"):
        await migrate(database, "shop", folder)
    assert rows(database, "SELECT to_regclass('shop.b') IS NULL, count(*) FROM shop.migrations") == [(True, 2)]


async def test_a_file_must_not_commit(database: str, folder: Path) -> None:
    (folder / "0003_third.sql").write_text("CREATE TABLE shop.b (); COMMIT; CREATE TABLE shop.c ();")
    with pytest.raises(MigrationFault, match="ends its own transaction"):
        await migrate(database, "shop", folder)
    assert rows(database, "SELECT count(*) FROM shop.migrations") == [(2,)]


async def test_an_applied_file_is_final(database: str, folder: Path) -> None:
    await migrate(database, "shop", folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE shop.other ();")
    with pytest.raises(MigrationFault, match=r"0001_first\.sql was changed"):
        await migrate(database, "shop", folder)


@pytest.mark.parametrize("name", ["0004_gap.sql", "0002_double.sql", "3_short.sql", "0003-dash.sql"])
def test_names_and_numbers(folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationFault):
        read(folder)


def test_no_files_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(MigrationFault):
        read(tmp_path)


async def test_replicas_at_once(database: str, folder: Path) -> None:
    # Slow enough for all to be there at once.
    (folder / "0003_third.sql").write_text("SELECT pg_sleep(0.3); INSERT INTO shop.a VALUES (3, 3);")
    await asyncio.gather(*(migrate(database, "shop", folder) for _ in range(8)))
    assert rows(database, "SELECT count(*) FROM shop.a") == [(2,)]


async def test_schemas_do_not_wait_for_each_other(database: str, folder: Path, tmp_path: Path) -> None:
    (folder / "0003_third.sql").write_text("SELECT pg_sleep(30);")
    other = tmp_path / "other"
    other.mkdir()
    (other / "0001_first.sql").write_text("CREATE TABLE market.a ();")
    slow = asyncio.create_task(migrate(database, "shop", folder))
    await asyncio.sleep(0.5)
    await asyncio.wait_for(migrate(database, "market", other), 10)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_killed_in_the_middle(database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL while a file is being applied: nothing of it stays, and the next replica goes on within seconds."""
    stuck = folder / "0003_third.sql"
    stuck.write_text("INSERT INTO shop.a VALUES (3, 3); SELECT pg_sleep(60);")
    code = (
        "import asyncio, pathlib; from api.migrate import migrate; "
        f"asyncio.run(migrate({database!r}, 'shop', pathlib.Path({str(folder)!r})))"
    )
    victim = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not rows(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"):
        assert victim.poll() is None
        await asyncio.sleep(0.05)
    victim.kill()
    victim.wait(10)
    stuck.write_text("INSERT INTO shop.a VALUES (4, 4);")
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 15)
    await migrate(database, "shop", folder)
    assert rows(database, "SELECT n FROM shop.a ORDER BY n") == [(1,), (4,)]


@pytest.mark.parametrize(("point", "applied"), [("migrate.before_commit", 1), ("migrate.after_commit", 2)])
async def test_killed_around_a_commit_the_next_start_completes(database: str, folder: Path, point: str, applied: int) -> None:
    """The second file's; others wait meanwhile, and go on at once."""
    code = (
        "import asyncio, pathlib; from api.migrate import migrate; "
        f"asyncio.run(migrate({database!r}, 'shop', pathlib.Path({str(folder)!r})))"
    )
    environment = {**os.environ, "JOBBER_FAIL": f"{point}:2:kill"}
    victim = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=environment, timeout=60)
    assert victim.returncode == -signal.SIGKILL
    assert rows(database, "SELECT count(*) FROM shop.migrations") == [(applied,)]
    await asyncio.gather(*(migrate(database, "shop", folder) for _ in range(3)))
    assert rows(database, "SELECT n, m FROM shop.a") == [(1, 2)]
    assert rows(database, "SELECT count(*) FROM shop.migrations") == [(2,)]
