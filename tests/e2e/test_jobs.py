"""Jobs from submission to their end: computed results, cancelling, owners, and what scripts rely on."""

import csv
import io
import json
from pathlib import Path

import pytest

from jobber import errors
from jobber.cli.client import Client
from jobber.model import State
from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.system import System, ended, until


def test_fibonacci_answers_its_results_as_a_download(system: System) -> None:
    job = ended(system.client, system.client.execute("Fibonacci", [{"iterations": number} for number in (1, 2, 10, 90)]))
    assert job.state is State.SUCCEEDED
    into = io.BytesIO()
    system.client.download(f"/jobs/{job.id}/results.csv", into)
    rows = list(csv.DictReader(io.StringIO(into.getvalue().decode())))
    assert [int(row["row"]) for row in rows] == [1, 2, 3, 4]
    assert "2880067194370816120" in rows[3].values()
    assert system.loaded(job) == []


def test_after_a_cancel_is_answered_no_further_row_appears(system: System, tmp_path: Path) -> None:
    stored = system.client.upload(write_csv(tmp_path / "many.csv", 400_000, broken=False))
    job = system.client.execute("LoadProducts", {"fileName": stored["id"]})
    until(lambda: system.client.job(job.id).loaded > 0 or system.client.job(job.id).state.terminal, what="the first batch")
    system.client.cancel(job.id)
    done = ended(system.client, job)
    assert done.state is State.CANCELED
    count = "SELECT count(*) FROM products.products WHERE job_id = %s"
    [(rows,)] = system.rows(count, job.id)
    assert rows == done.loaded
    assert done.loaded + done.rejected + done.unprocessed == done.total == 400_000
    assert ended(system.client, system.client.execute("LoadProducts", {"name": "next", "price": 1})).loaded == 1
    assert system.rows(count, job.id) == [(rows,)]


CREATE = 'mutation { createUser(input: { email: "%s", password: "%s" }) { id email role } }'


@pytest.fixture(scope="module")
def member(system: System) -> Client:
    email, password = "member@example.org", "correct horse battery staple"
    made = system.client.ask(CREATE % (email, password), service=system.client.auth)["createUser"]
    assert made["role"] == "MEMBER"
    return system.login(email, password)


def test_a_member_does_not_make_users(system: System, member: Client) -> None:
    with pytest.raises(errors.Forbidden):
        member.ask(CREATE % ("other@example.org", "correct horse battery staple"), service=member.auth)
    with pytest.raises(errors.Forbidden):
        member.ask("{ users { email } }", service=member.auth)
    emails = {user["email"] for user in system.client.ask("{ users { email } }", service=system.client.auth)["users"]}
    assert emails >= {"member@example.org", system.state["admin"]["email"]}


def test_people_see_only_their_own(system: System, member: Client, tmp_path: Path) -> None:
    admins = ended(system.client, system.client.execute("LoadProducts", [{"name": "", "price": 1}, {"name": "x", "price": 1}]))
    with pytest.raises(errors.NotFound):
        member.job(admins.id)
    with pytest.raises(errors.NotFound):
        member.cancel(admins.id)
    with pytest.raises(errors.NotFound):
        member.download(f"/jobs/{admins.id}/rejects.csv", io.BytesIO())
    stored = system.client.upload(write_csv(tmp_path / "theirs.csv", 10))
    with pytest.raises(errors.NotFound):
        member.execute("LoadProducts", {"fileName": stored["id"]})
    own = ended(member, member.execute("LoadProducts", {"name": "mine", "price": 1}))
    assert [job["id"] for job in member.ask("{ jobs { id } }")["jobs"]] == [own.id]
    assert system.client.job(own.id).state is State.SUCCEEDED


def test_a_wrong_password_is_refused(system: System) -> None:
    with pytest.raises(errors.JobberError):
        system.login(system.state["admin"]["email"], "wrong")


def test_the_command_line_loads_and_answers_by_exit_code(system: System, tmp_path: Path) -> None:
    here = ("--data-dir", str(system.folder))
    good = running.run("load", str(write_csv(tmp_path / "good.csv", 50, broken=False)), "--job", "LoadProducts", *here)
    assert good.returncode == 0, good.stderr
    assert "50 loaded" in good.stdout
    assert "\x1b" not in good.stdout
    some = running.run("load", str(write_csv(tmp_path / "some.csv", 400)), "--job", "LoadProducts", *here)
    assert some.returncode == 3, some.stderr
    (tmp_path / "empty.csv").write_text("")
    assert running.run("load", str(tmp_path / "empty.csv"), "--job", "LoadProducts", *here).returncode == 1
    assert running.run("load", str(tmp_path / "good.csv"), "--job", "Nothing", *here).returncode == 4
    unknown = "00000000-0000-4000-8000-000000000000"
    assert running.run("status", unknown, *here).returncode == 4
    id = next(line.split()[1] for line in some.stdout.splitlines() if line.strip().startswith("job "))
    assert running.run("status", id, *here).returncode == 3
    by_token = {"JOBBER_URL": system.state["jobs"], "JOBBER_TOKEN": system.client.token}
    assert running.run("status", id, environment=by_token).returncode == 3


def test_counts_never_go_back(system: System, tmp_path: Path) -> None:
    stored = system.client.upload(write_csv(tmp_path / "many.csv", 100_000))
    job = system.client.execute("LoadProducts", {"fileName": stored["id"]})
    done = [seen.done for seen in system.client.follow(job.id)]
    assert done == sorted(done)
    assert done[-1] == 100_000


def test_pretty_job_data_is_kept_as_it_was_sent(system: System) -> None:
    data = json.dumps([{"name": "cents", "price": 0.1}]).replace("0.1", "1234567890.10")
    job = ended(system.client, system.client.execute("LoadProducts", data))
    assert [str(row[3]) for row in system.loaded(job)] == ["1234567890.10"]
