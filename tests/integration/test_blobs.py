"""The blob store under kill -9, over a network, and with more bytes than may be in memory."""

import asyncio
import hashlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from jobber.blobs.store import Blobs
from jobber.errors import NotFound, Unavailable

WRITER = """
import asyncio, sys
from jobber.blobs.store import Blobs
async def endless():
    for number in range(10**9):
        if number == 20:
            print("writing", flush=True)
        yield bytes(1 << 20)
        await asyncio.sleep(0.001)
asyncio.run(Blobs(sys.argv[1]).put("uploads/a", endless(), 1 << 40))
"""
READER = """
import sys
from jobber.blobs.store import Blobs
def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) >> 10
blobs = Blobs(sys.argv[1])
before = anonymous()
print(sum(len(window) for window in blobs.windows("large")), max(anonymous() for window in blobs.windows("large")) - before)
"""


async def feed(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def test_what_a_killed_process_was_writing_never_appears(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    blobs = Blobs(url)
    with pytest.raises(NotFound):
        blobs.size("uploads/a")
    asyncio.run(blobs.put("uploads/b", feed(b"1"), 10))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b"]


def test_windows_of_a_large_file_need_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(400 << 20)
    said = subprocess.run(
        [sys.executable, "-c", READER, tmp_path.as_uri()], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(said[0]) == 400 << 20
    assert int(said[1]) < 40


class Bucket(ThreadingHTTPServer):
    """As much of S3 as obstore asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.broken = False


class Requests(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        bucket, parts = self.server, urlsplit(self.path)
        asked, key = parse_qs(parts.query, keep_blank_values=True), parts.path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bucket.requests.append(f"{self.command} {' '.join(asked)}".strip())
        if bucket.broken:
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif self.command == "POST" and "uploads" in asked:
            bucket.uploads["u"] = {}
            self.answer(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        elif self.command == "POST" and "delete" in asked:
            names = re.findall(r"<Key>.*?</Key>", body.decode())
            for name in names:
                bucket.objects.pop(f"{key.rstrip('/')}/{name[5:-6]}", None)
            self.answer(200, f"<DeleteResult><Deleted>{''.join(names)}</Deleted></DeleteResult>".encode())
        elif self.command == "POST":
            bucket.objects[key] = b"".join(part for _, part in sorted(bucket.uploads.pop("u").items()))
            self.answer(200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
        elif self.command == "PUT":
            if "partNumber" in asked:
                bucket.uploads["u"][int(asked["partNumber"][0])] = body
            else:
                bucket.objects[key] = body
            self.answer(200, ETag='"e"')
        elif self.command == "DELETE":
            bucket.uploads.pop("u", None)
            self.answer(204)
        elif key not in bucket.objects:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.get(bucket.objects[key])

    def get(self, data: bytes) -> None:
        facts = {"Last_Modified": "Tue, 24 Nov 2026 08:00:00 GMT", "ETag": '"e"'}
        if self.command == "HEAD":
            self.send_response(200)
            for name, value in (facts | {"Content_Length": str(len(data))}).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            return
        if "Range" not in self.headers:
            self.answer(200, data, **facts)
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        assert match
        start, end = int(match[1]), min(int(match[2]), len(data) - 1)
        if start >= len(data):
            self.answer(416)
        else:
            self.answer(206, data[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(data)}", **facts)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    server = Bucket()
    settings = {
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "nowhere",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_bucket_keeps_blobs_under_its_prefix(bucket: Bucket) -> None:
    blobs = Blobs("s3://inputs/jobber")
    stored = await blobs.put("uploads/a", feed(b"01234", b"56789"), 10)
    assert (stored.bytes, stored.sha256) == (10, hashlib.sha256(b"0123456789").digest())
    assert bucket.objects == {"/inputs/jobber/uploads/a": b"0123456789"}

    def read() -> tuple[int, bytes, list[bytes]]:
        return blobs.size("uploads/a"), blobs.read("uploads/a", 4, 3), list(blobs.windows("uploads/a", 4))

    assert await asyncio.to_thread(read) == (10, b"456", [b"0123", b"4567", b"89"])
    for offset in (8, 10, 50):
        with pytest.raises(NotFound):
            await asyncio.to_thread(blobs.read, "uploads/a", offset, 10)
    await blobs.delete("uploads/a")
    assert bucket.objects == {}
    with pytest.raises(NotFound):
        await asyncio.to_thread(blobs.read, "uploads/a", 0, 1)


async def test_a_large_input_goes_to_a_bucket_in_parts(bucket: Bucket) -> None:
    blobs = Blobs("s3://inputs")
    chunk = bytes(range(256)) * 4096
    stored = await blobs.put("large", feed(*[chunk] * 20), 1 << 30)
    whole = chunk * 20
    assert stored.sha256 == hashlib.sha256(whole).digest()
    assert bucket.objects == {"/inputs/large": whole}
    assert await asyncio.to_thread(lambda: b"".join(blobs.windows("large"))) == whole


async def test_an_upload_that_breaks_off_is_given_up(bucket: Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(1 << 20)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await Blobs("s3://inputs").put("large", broken(), 1 << 30)
    for _ in range(50):
        if "DELETE uploadId" in bucket.requests:
            break
        await asyncio.sleep(0.1)
    assert (bucket.objects, bucket.uploads) == ({}, {})


async def test_a_bucket_that_refuses_is_unavailable_and_its_keys_stay_secret(bucket: Bucket) -> None:
    blobs = Blobs("s3://inputs")
    await blobs.put("a", feed(b"1"), 10)
    bucket.broken = True
    with pytest.raises(Unavailable) as fault:
        await blobs.put("b", feed(b"1"), 10)
    assert "secret" not in str(fault.value)
    for read in (lambda: blobs.size("a"), lambda: blobs.read("a", 0, 1), lambda: list(blobs.windows("a"))):
        with pytest.raises(Unavailable):
            await asyncio.to_thread(read)
    with pytest.raises(Unavailable):
        await blobs.delete("a")
