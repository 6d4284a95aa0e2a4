"""The commands. Each imports what it needs when it runs: `jobber --help` must not wait for polars or gRPC."""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import click

from jobber.cli.exits import Exit, told

COMMANDLINE = click.core.ParameterSource.COMMANDLINE
F = TypeVar("F", bound=Callable[..., Any])

data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=".jobber",
    envvar="JOBBER_DATA_DIR",
    show_default=True,
    help="Folder of `jobber up`.",
)
broker = click.option(
    "--broker",
    type=click.Choice(["embedded", "pulsar"]),
    default="embedded",
    show_default=True,
    help="PostgreSQL as the transport, or a real Apache Pulsar (needs Java 17 and Maven).",
)
_replicas = click.IntRange(1, 64)


def reached(command: F) -> F:
    """The options that say where Jobber is, and who asks."""
    for option in reversed(
        (
            click.option("--url", envvar="JOBBER_URL", help="The jobs service, like http://host:3001."),
            click.option(
                "--auth-url", envvar="JOBBER_AUTH_URL", help="The auth service; the same host's port 3000 if not given."
            ),
            click.option("--token", envvar="JOBBER_TOKEN", help="A token, instead of e-mail and password."),
            click.option("--email", envvar="JOBBER_EMAIL", help="Who logs in."),
            click.option("--password", envvar="JOBBER_PASSWORD", help="Better given in the environment: JOBBER_PASSWORD."),
            data_dir,
        )
    ):
        command = option(command)
    return command


def _version() -> str:
    try:
        return version("jobber")
    except PackageNotFoundError:
        return "of this checkout"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(_version(), prog_name="jobber")
def app() -> None:
    """Bulk loads and other jobs, each record exactly once.

    Exit codes: 0 done, 1 failed, 2 usage, 3 done with rejects, 4 not found, 5 unreachable.
    """


@app.command()
@data_dir
@broker
@click.option(
    "--ports", type=click.Choice(["fixed", "auto"]), default="fixed", show_default=True, help="auto: whatever is free."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when ready, and nothing else.")
@click.option("--auth", type=_replicas, default=1, help="Processes of the auth service.")
@click.option("--jobs", type=_replicas, default=1, help="Processes of the jobs service.")
@click.option("--executors", type=_replicas, default=1, help="Processes of the executor.")
@click.option("--products", type=_replicas, default=1, help="Processes of the products service.")
def up(**options: Any) -> None:
    """Run all of Jobber on this machine, in the foreground."""
    from jobber.cli.up import run

    # What `up` starts is not somebody else's who does not answer.
    with told(unreachable=Exit.FAILED):
        run(**options)


@app.command()
@data_dir
def down(data_dir: Path) -> None:
    """Stop the `jobber up` of a data folder, and wait until it has stopped."""
    from jobber.cli.up import stop

    with told():
        stop(data_dir)


def _service(name: str, module: str, sentence: str) -> None:
    @app.command(name, help=f"{sentence} Settings come from the environment: docs/settings.md.")
    def command() -> None:
        from importlib import import_module

        with told():
            import_module(module).main()


_service("auth", "api.auth.main", "Run one auth service.")
_service("products", "api.products.main", "Run one products service.")
_service("jobs", "api.jobs.main", "Run one jobs service.")


@app.command()
@click.option("--jobs", "only", help="Work only for these job types, separated by commas.")
def executor(only: str | None) -> None:
    """Run one executor. Settings come from the environment: docs/settings.md."""
    import os

    if only:
        os.environ["JOBBER_ONLY_JOBS"] = only
    from pipelines.main import main

    with told():
        main()


@app.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, and say how to reach and stop it.")
@broker
def demo(file: Path | None, keep: bool, broker: str) -> None:
    """Start everything, load FILE (or 100,000 made-up products), show what became of it."""
    from jobber.cli.demo import run

    with told(unreachable=Exit.FAILED):
        sys.exit(run(file, keep=keep, broker=broker))


@app.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--job", "name", required=True, help="Job type, like LoadProducts.")
@click.option("--args", "arguments", default="{}", help="Further arguments of the job type, a JSON object.")
@click.option("--delimiter", help="CSV: what parts the columns; \\t for a tab.")
@click.option("--quote", help="CSV: what surrounds a text.")
@click.option("--encoding", help="Of the text, like windows-1252.")
@click.option(
    "--format", "form", type=click.Choice(["CSV", "NDJSON", "JSON", "PARQUET"]), help="Where the content does not tell."
)
@click.option("--mapping", multiple=True, metavar="COLUMN=THEIRS", help="The contract's COLUMN is called THEIRS in the file.")
@click.option("--mode", type=click.Choice(["INSERT", "UPSERT", "UPDATE"]), help="How rows are written.")
@click.option("--keys", metavar="COLUMNS", help="What tells rows apart for UPSERT and UPDATE, separated by commas.")
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
@click.option("--max-errors", type=click.IntRange(0), help="The job fails with more rejects than this.")
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE", help="Any option of LoadOptions.")
@reached
@click.pass_context
def load(
    context: click.Context,
    /,
    file: Path,
    name: str,
    arguments: str,
    delimiter: str | None,
    quote: str | None,
    encoding: str | None,
    form: str | None,
    mapping: tuple[str, ...],
    mode: str | None,
    keys: str | None,
    dry_run: bool,
    max_errors: int | None,
    options: tuple[str, ...],
    **where: Any,
) -> None:
    """Upload FILE, run a job on it and follow it to its end.

    What was interrupted, here or at the service, goes on where it stopped: start the same command again.
    """
    from jobber.cli.client import connect
    from jobber.cli.load import options_of, run

    dialect = {"delimiter": delimiter, "quote": quote, "encoding": encoding, "format": form}
    given = options_of(options, mapping, keys, **dialect, mode=mode, dryRun=dry_run, maxErrors=max_errors)
    with told():
        sys.exit(run(connect(**where), file, name, arguments, given, reached_as(context)))


def reached_as(context: click.Context) -> list[str]:
    """The options that say where Jobber is, as they were given on the command line; a secret only by its variable's name."""
    words = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in ("url", "auth_url", "data_dir", "email") and context.get_parameter_source(name) is COMMANDLINE:
            words += [parameter.opts[0], str(context.params[name])]
    return words


@app.command()
@click.argument("id")
@reached
def status(id: str, **where: Any) -> None:
    """Say where a job is."""
    from jobber.cli.client import connect
    from jobber.cli.load import show

    with told():
        sys.exit(show(connect(**where), id))


@app.command()
@click.argument("id")
@reached
def cancel(id: str, **where: Any) -> None:
    """Cancel a job: no further record of it is loaded."""
    from jobber.cli.client import connect
    from jobber.cli.load import cancel as run

    with told():
        sys.exit(run(connect(**where), id))


@app.command()
@click.argument("id")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A file; without it, standard output.")
@click.option("--format", "form", type=click.Choice(["csv", "ndjson"]), help="By the file's name, else csv.")
@reached
def rejects(id: str, output: Path | None, form: str | None, **where: Any) -> None:
    """Download what was rejected of a job, in the input's own columns, with row, code and message."""
    from jobber.cli.client import connect
    from jobber.cli.rejects import download

    with told():
        download(connect(**where), id, output, form)


@app.command()
@click.argument("id")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@reached
def replay(id: str, file: Path | None, **where: Any) -> None:
    """Run a job's rejects again as a job of its own: corrected in FILE (as `jobber rejects` writes it), or as they were."""
    from jobber.cli.client import connect
    from jobber.cli.rejects import replay as run

    with told():
        sys.exit(run(connect(**where), id, file))


@app.group()
def users() -> None:
    """Make and disable users, straight in the database: DATABASE_URL, or the running `jobber up`'s."""


@users.command("add")
@click.argument("email")
@click.option("--role", type=click.Choice(["ADMIN", "MEMBER", "VIEWER"]), default="MEMBER", show_default=True)
@data_dir
def users_add(email: str, role: str, data_dir: Path) -> None:
    """Make a user; the password is asked, or read from standard input."""
    from jobber.cli import users

    with told():
        users.add(data_dir, email, role, users.read_password())


@users.command("list")
@data_dir
def users_list(data_dir: Path) -> None:
    """List all users."""
    from jobber.cli import users

    with told():
        users.show(data_dir)


@users.command("disable")
@click.argument("email")
@data_dir
def users_disable(email: str, data_dir: Path) -> None:
    """Let a user log in no more; all their sessions and API tokens end."""
    from jobber.cli import users

    with told():
        users.disable(data_dir, email)


@users.command("passwd")
@click.argument("email")
@data_dir
def users_passwd(email: str, data_dir: Path) -> None:
    """Give a user another password, asked or read from standard input; all their sessions and API tokens end."""
    from jobber.cli import users

    with told():
        users.change_password(data_dir, email, users.read_password())


@app.command()
@click.argument("name")
@click.option("--json-schema", is_flag=True, help="As JSON Schema.")
@click.option("--template", is_flag=True, help="As the header of a CSV file.")
def contract(name: str, json_schema: bool, template: bool) -> None:
    """Show the rules that a job type's records must meet."""
    from jobber.cli.contract import show

    with told():
        show(name, json_schema=json_schema, template=template)


@app.command()
@click.argument("name")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A new file; else standard output.")
def template(name: str, output: Path | None) -> None:
    """Write a CSV file with the header that a job type's input wants."""
    from jobber.cli.contract import template as run

    with told():
        run(name, output)


@app.command()
def migrate() -> None:
    """Bring the database of DATABASE_URL up to date. Services do so themselves when they start."""
    from jobber.cli import operate

    with told():
        operate.migrate()


@app.command()
@click.option("--port", type=int, envvar="JOBBER_HTTP_PORT", default=3001, show_default=True, help="HTTP port of the service.")
def healthy(port: int) -> None:
    """Whether the service on this machine is ready: exit code 0, else 5."""
    from jobber.cli import operate

    with told():
        operate.healthy(port)
