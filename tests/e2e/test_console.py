"""The web console over HTTP: who gets in, what is refused, what is inert, what moves."""

import html
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

import httpx
import pytest

from jobber.cli.client import Client
from jobber.model import State
from tests.support.system import System, ended

PASSWORD = "a password of a member"
EVIL = "<img src=x onerror=alert(1)>"
CREATE = "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }"


class Browser(httpx.Client):
    """What a browser does: keeps cookies, says where forms come from, goes where it is sent only when asked to."""

    def __init__(self, system: System) -> None:
        self.home = system.state["console"]
        self.origin = self.home.removesuffix("/console")
        super().__init__(base_url=self.origin, timeout=30, trust_env=False)

    def page(self, path: str = "") -> httpx.Response:
        """A page of the console."""
        return self.get(f"/console{path}", headers={"sec-fetch-site": "same-origin"})

    def submit(self, path: str, **fields: str) -> httpx.Response:
        """A form of the console."""
        return self.post(f"/console{path}", data=fields, headers={"origin": self.origin})

    def sign_in(self, email: str, password: str, **fields: str) -> httpx.Response:
        """With the form."""
        return self.submit("/sign-in", email=email, password=password, **fields)

    def live(self, path: str, until: str) -> str:
        """What a stream says up to an event."""
        said = ""
        with self.stream("GET", f"/console{path}", headers={"sec-fetch-site": "same-origin"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                said += line + "\n"
                if line == f"event: {until}":
                    break
        return said


@dataclass(frozen=True)
class Member:
    """A user with PASSWORD, and a program of theirs."""

    email: str
    client: Client

    def upload(self, name: str, content: bytes) -> str:
        """The id of a new upload."""
        return str(self.client.send("POST", "/uploads", files={"file": (name, content)}).json()["id"])


def new_member(system: System) -> Member:
    email = f"{uuid.uuid4().hex}@example.com"
    system.client.ask(CREATE, {"i": {"email": email, "password": PASSWORD}}, service=system.client.auth)
    return Member(email, system.login(email, PASSWORD))


@pytest.fixture(scope="module")
def member(system: System) -> Member:
    return new_member(system)


@pytest.fixture(scope="module")
def browser(system: System, member: Member) -> Iterator[Browser]:
    """The member's, signed in."""
    with Browser(system) as made:
        assert made.sign_in(member.email, PASSWORD).status_code == 303
        yield made


@pytest.fixture(scope="module")
def evil_job(member: Member) -> str:
    """Markup wherever people can write something: its rejects, its error, the name of its file."""
    stored = member.upload(f"{EVIL}.csv", f"name,price\n{EVIL}\u202e,{EVIL}\nn,1\n".encode())
    return ended(member.client, member.client.execute("LoadProducts", {"fileName": stored})).id


def test_who_is_not_signed_in_comes_to_the_form_and_back(system: System, member: Member) -> None:
    with Browser(system) as browser:
        asked = browser.page("/load?type=Fibonacci")
        assert asked.status_code == 303
        assert asked.headers["location"] == "/console/sign-in?next=%2Fconsole%2Fload%3Ftype%3DFibonacci"
        wrong = browser.sign_in(member.email, "not the password", next="/console/types")
        assert wrong.status_code == 401
        assert "e-mail or the password is wrong" in wrong.text
        assert f'value="{member.email}"' in wrong.text
        assert "not the password" not in wrong.text
        assert not browser.cookies
        right = browser.sign_in(member.email, PASSWORD, next="/console/types")
        assert (right.status_code, right.headers["location"]) == (303, "/console/types")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "expires=" in cookie
        assert browser.page().status_code == 200
        kept = dict(browser.cookies)
        assert browser.submit("/sign-out").headers["location"] == "/console/sign-in"
        assert not browser.cookies
        browser.cookies.update(kept)
        assert browser.page().status_code == 303, "the token of a session that has ended"
    address = "SELECT detail->>'address' FROM auth.audit WHERE action = 'user.login' AND actor = %s ORDER BY id DESC LIMIT 1"
    assert system.rows(address, member.email) == [("127.0.0.1",)]


@pytest.mark.parametrize(
    "elsewhere", ["https://example.com", "//example.com", "/console\\@example.com", "/graphql", "/consolex"]
)
def test_signing_in_leads_nowhere_else(system: System, member: Member, elsewhere: str) -> None:
    with Browser(system) as browser:
        assert browser.sign_in(member.email, PASSWORD, next=elsewhere).headers["location"] == "/console"


def test_forms_of_foreign_pages_are_refused(member: Member, browser: Browser) -> None:
    job = member.client.execute("LoadProducts", [{"name": "n", "price": 1}])
    token = {"authorization": f"Bearer {member.client.token}"}
    for path in ("/sign-in", "/sign-out", "/load", f"/jobs/{job.id}/cancel"):
        for where in ({"origin": "https://example.com"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {}):
            answer = browser.post(f"/console{path}", data={}, headers={**where, **token})
            assert (answer.status_code, "not sent by a page" in answer.text) == (403, True), (path, where)
            assert "set-cookie" not in answer.headers
    assert ended(member.client, job).state is State.SUCCEEDED
    assert browser.page().status_code == 200


def test_a_link_on_a_foreign_page_opens_here_at_the_second_asking(browser: Browser) -> None:
    came = browser.get("/console", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    assert came.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in came.text
    assert "Jobs" not in came.text


def test_others_jobs_are_not_there(system: System, browser: Browser, evil_job: str) -> None:
    theirs = system.client.execute("LoadProducts", [{"name": "of another one", "price": "x"}])
    ended(system.client, theirs)
    for path in ("", "/live", "/rejects"):
        assert browser.page(f"/jobs/{theirs.id}{path}").status_code == 404
    assert browser.page(f"/jobs/{evil_job}/rejects").status_code == 200
    for act in ("cancel", "pause", "resume", "retry", "replay"):
        assert browser.submit(f"/jobs/{theirs.id}/{act}").status_code == 404
    assert theirs.id not in browser.page().text
    assert theirs.id not in browser.live("/live", "order")
    with Browser(system) as admin:
        admin.sign_in(system.state["admin"]["email"], system.state["admin"]["password"])
        assert {job for job in (theirs.id, evil_job) if job in admin.page().text} == {theirs.id, evil_job}


def test_a_viewer_looks_and_changes_nothing(system: System) -> None:
    looking = new_member(system)
    email, client = looking.email, looking.client
    job = ended(client, client.execute("LoadProducts", [{"name": "n", "price": 1}, {"name": "n", "price": "x"}]))
    system.rows("UPDATE auth.users SET role = 'VIEWER' WHERE email = %s RETURNING 1", email)
    with Browser(system) as viewer:
        viewer.sign_in(email, PASSWORD)
        page = viewer.page(f"/jobs/{job.id}")
        assert page.status_code == 200
        assert "/replay" not in page.text
        assert "/console/load" not in page.text
        assert viewer.page("/load").status_code == 403
        for path in ("/load", f"/jobs/{job.id}/replay", f"/jobs/{job.id}/cancel"):
            assert viewer.submit(path, type="LoadProducts").status_code == 403


def test_markup_stays_text_and_nothing_runs(browser: Browser, evil_job: str) -> None:
    pages = [
        browser.page(path) for path in ("", "/load", "/types", f"/jobs/{evil_job}", f"/jobs/{evil_job}/rejects", "/jobs/none")
    ]
    pages.append(browser.page(f"?type={EVIL}"))
    pages.append(browser.submit("/load", type=EVIL, mapping=EVIL, file_name=EVIL, keys=EVIL))
    pages.append(browser.sign_in(EVIL, EVIL))
    for page in pages:
        assert "<img src=x" not in page.text, page.url
        assert Tags(page.text).runs == []
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        for rule in (
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ):
            assert rule in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"
    assert html.escape(EVIL, quote=False) in pages[4].text
    assert "\u202e" not in pages[4].text
    assert "U+202E" in pages[4].text
    said = browser.live(f"/jobs/{evil_job}/live", "ended")
    assert "event: parts" in said
    assert "&lt;img" in said
    assert "<img" not in said


class Tags(HTMLParser):
    """What of a page a browser could run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.runs: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.runs += [f"{tag} {name}" for name, value in attrs if name.startswith("on") or name == "style" or _is_script(value)]
        source = dict(attrs).get("src") or ""
        if tag == "style" or (tag == "script" and not source.startswith("/console/static/")):
            self.runs.append(tag)


def _is_script(value: str | None) -> bool:
    return (value or "").strip().lower().startswith("javascript:")


def test_files_are_kept_by_browsers_until_they_change(browser: Browser) -> None:
    address = re.search(r"/console/static/console\.js\?v=\w+", browser.page().text)
    assert address
    first = browser.get(address[0])
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert browser.get(address[0], headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert browser.get("/console/static/console.js?v=other").headers["cache-control"] == "no-cache"
    for name in ("door.py", "..%2fdoor.py", "base.html"):
        assert browser.get(f"/console/static/{name}").status_code == 404


def test_a_file_becomes_a_job(system: System, member: Member, browser: Browser) -> None:
    uploaded = member.upload("goods.csv", b"name;cena\na;1\nb;x\n")
    form = browser.page("/load").text
    key = re.search(r'name="key" value="([^"]+)"', form)
    assert key
    given = {
        "type": "LoadProducts",
        "key": key[1],
        "upload_id": uploaded,
        "file_name": "goods.csv",
        "mapping": "price = cena",
        "dry_run": "1",
        "max_errors": "many",
    }
    again = browser.submit("/load", **given)
    assert again.status_code == 400
    assert "must be a whole number" in again.text
    assert f'name="upload_id" value="{uploaded}"' in again.text
    assert "price = cena" in again.text
    right = given | {"max_errors": "1", "delimiter": ";"}
    where = browser.submit("/load", **right).headers["location"]
    assert browser.submit("/load", **right).headers["location"] == where, "sent twice it is one job"
    job_id = where.rpartition("/")[2]
    said = browser.live(f"/jobs/{job_id}/live", "ended")
    assert "Partial" in said
    page = browser.page(f"/jobs/{job_id}").text
    assert "goods.csv" in page
    assert "dry run" in page
    assert "row 2" in page
    assert browser.get(f"/jobs/{job_id}/rejects.csv", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    child = browser.submit(f"/jobs/{job_id}/replay")
    assert child.status_code == 303
    assert child.headers["location"] != where
    corrected = member.upload("corrected.csv", b"name,cena,row,code,message\nb,2,2,TYPE,\n")
    assert f'name="replay" value="{job_id}"' in browser.page(f"/load?replay={job_id}").text
    replayed = browser.submit("/load", replay=job_id, upload_id=corrected).headers["location"]
    assert "Succeeded" in browser.live(f"{replayed.removeprefix('/console')}/live", "ended")
    assert browser.submit("/load", replay=job_id).status_code == 400
    again = browser.page(f"/load?type=LoadProducts&upload={uploaded}")
    assert "goods.csv</bdi> is here already" in again.text
    theirs = system.client.send("POST", "/uploads", files={"file": ("theirs.csv", b"name,price\n")}).json()["id"]
    assert "is here already" not in browser.page(f"/load?upload={theirs}").text
    refused = browser.submit(f"/jobs/{job_id}/cancel")
    assert refused.status_code == 409
    assert "has ended" in refused.text


def test_lists_are_filtered_and_paged(browser: Browser, evil_job: str) -> None:
    assert evil_job in browser.page("?state=partial").text
    assert evil_job not in browser.page("?state=succeeded").text
    assert "No such job" in browser.page("?type=Nothing").text
    assert "No older jobs" in browser.page("?before=1").text
    for wrong in ("?state=odd", "?before=x", f"?before={10**30}"):
        assert browser.page(wrong).status_code == 400
    assert evil_job in browser.live("/live", "order")
