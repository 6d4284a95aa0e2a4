"""`jobber migrate` makes all schemas, and finds nothing to do the second time."""

import psycopg
from click.testing import CliRunner

from jobber.cli.app import app


def test_migrate_makes_every_schema_once(database: str) -> None:
    for _ in range(2):
        done = CliRunner().invoke(app, ["migrate"], env={"DATABASE_URL": database})
        assert done.exit_code == 0, done.output
    with psycopg.connect(database) as connection:
        for schema in ("auth", "jobs", "products"):
            found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{schema}.migrations"]).fetchone()
            assert found == (True,)
