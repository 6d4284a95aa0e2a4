"""python -m benchmarks.grpc --rows 300000 --rounds 5

    wire     a stream of frames, into a service that counts their bytes and forgets them, by the size of a frame: GB/s, and CPU
             seconds of both sides for a GB; as ready-made bytes, as the executor sends them, and as protobuf messages
    unary    small calls to that service, one at a time and sixteen at once: calls a second
    load     Arrow streams of products through the real service's Load, by rows of a batch: rows/s, and CPU seconds of a million
             rows by caller, service and PostgreSQL; LoadSmall with batches of ten rows; CreateProduct, a row a call

The services are processes of their own, with the project's options. Rows are counted afterwards.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg

from benchmarks import report
from benchmarks.chart import bars
from benchmarks.copy.__main__ import IN_FLIGHT, SECRET, empty, products, stream_of
from benchmarks.grpc.null import CALL, STREAM
from jobber.credentials import service_token
from jobber.ids import uuid7
from jobber.local.ports import free_port
from jobber.local.postgres import EmbeddedPostgres
from protos import client
from protos.jobber.products.v1 import products_pb2 as pb
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceStub
from protos.jobber.v1 import receipt_pb2
from protos.load_parts import chunk_to

#: Bytes of a frame; the executor's are of a mebibyte.
FRAMES = (64 << 10, 256 << 10, 1 << 20, 4 << 20)
#: Rows of a batch.
BATCHES = (1000, 5000, 10_000, 50_000)
#: Calls of one round.
CALLS = 1000
SMALL_ROWS, SMALL_GROUP = 10, 256
CREATED = 500


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds, and CPU seconds by process."""

    wall: float
    cpu: Mapping[str, float]


def timed(work: Callable[[], object], pids: Mapping[str, int]) -> Spent:
    """One run of it."""
    before, own = {who: report.cpu_of(pid) for who, pid in pids.items()}, time.process_time()
    began = time.perf_counter()
    work()
    wall = time.perf_counter() - began
    cpu = {who: report.cpu_of(pid) - before[who] for who, pid in pids.items()}
    return Spent(wall, {"caller": time.process_time() - own, **cpu})


def median(runs: list[Spent], scale: float) -> dict[str, float]:
    """CPU seconds times `scale`, by process."""
    return {f"{who} CPU s": statistics.median(run.cpu[who] for run in runs) * scale for who in runs[0].cpu}


def over_the_wire(address: str, pid: int, size: int, rounds: int) -> list[dict[str, Any]]:
    """`size` bytes for each kind and length of frame, in turn."""
    with client.channel(address, None) as channel:
        raw: Callable[..., bytes] = channel.stream_unary(STREAM)
        made: Callable[..., bytes] = channel.stream_unary(STREAM, request_serializer=pb.LoadRequest.SerializeToString)

        def send(kind: str, frame: int) -> None:
            chunk = os.urandom(frame)
            count = size // frame
            if kind == "bytes":
                got = raw(chunk_to(chunk) for _ in range(count))
            else:
                got = made(pb.LoadRequest(chunk=chunk) for _ in range(count))
            assert int(got) >= count * frame, got

        ways = [(kind, frame) for kind in ("bytes", "messages") for frame in FRAMES]
        found = taken(ways, rounds, lambda way: timed(lambda: send(*way), {"service": pid}))
    gigabyte = 1e9 / size
    return [
        {
            "frames": kind,
            "KiB": frame >> 10,
            "GB/s": 1 / (statistics.median(run.wall for run in runs) * gigabyte),
            **median(runs, gigabyte),
        }
        for (kind, frame), runs in found.items()
    ]


def small_calls(address: str, pid: int, rounds: int) -> list[dict[str, Any]]:
    """One at a time, and sixteen at once."""
    with client.channel(address, None) as channel:
        call: Callable[..., bytes] = channel.unary_unary(CALL)

        def ask(at_once: int) -> None:
            if at_once == 1:
                for _ in range(CALLS):
                    call(b"x" * 200)
            else:
                with ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(lambda _: call(b"x" * 200), range(CALLS)))

        found = taken([1, 16], rounds, lambda at_once: timed(lambda: ask(at_once), {"service": pid}))
    return [
        {"at once": at_once, "calls/s": CALLS / statistics.median(run.wall for run in runs), **median(runs, 1e6 / CALLS)}
        for at_once, runs in found.items()
    ]


def real(address: str, pids: Mapping[str, int], dsn: str, rows: int, rounds: int) -> list[dict[str, Any]]:
    """The products service, by way and size."""
    frame = products(rows)
    small = rows // 10
    streams = {size: [(part.height, stream_of(part)) for part in frame.iter_slices(size)] for size in BATCHES}
    tens = [(part.height, stream_of(part)) for part in frame.head(small).iter_slices(SMALL_ROWS)]
    metadata = client.credential(service_token(SECRET))
    with client.channel(address, None) as channel:
        stub = ProductsServiceStub(channel)
        load: Callable[..., pb.LoadResponse] = channel.stream_unary(
            "/jobber.products.v1.ProductsService/Load", response_deserializer=pb.LoadResponse.FromString
        )

        def batches(size: int) -> None:
            job = uuid7()

            def one(number: int) -> None:
                answer = load(requests(job, number, *streams[size][number]), metadata=metadata)
                assert answer.outcomes[0].receipt.inserted == streams[size][number][0]

            at_once(one, len(streams[size]))

        def groups(_: int) -> None:
            job = uuid7()

            def one(start: int) -> None:
                group = list(enumerate(tens))[start * SMALL_GROUP : (start + 1) * SMALL_GROUP]
                made = [pb.SmallBatch(header=header(job, number, count), stream=stream) for number, (count, stream) in group]
                stub.LoadSmall(pb.LoadSmallRequest(batches=made), metadata=metadata)

            at_once(one, -(-len(tens) // SMALL_GROUP))

        def create(_: int) -> None:
            for name, price in frame.head(CREATED).select("name", "price").iter_rows():
                product = pb.Product(name=name, price=str(price))
                stub.CreateProduct(pb.CreateProductRequest(product=product), metadata=metadata)

        ways: dict[tuple[str, int], tuple[Callable[[int], None], int]] = {
            **{("Load", size): (batches, rows) for size in BATCHES},
            ("LoadSmall", SMALL_ROWS): (groups, len(tens) * SMALL_ROWS),
            ("CreateProduct", 1): (create, CREATED),
        }

        def run(way: tuple[str, int]) -> Spent:
            empty(dsn, 1)
            work, expected = ways[way]
            spent = timed(lambda: work(way[1]), pids)
            with psycopg.connect(dsn) as session:
                found = session.execute("SELECT count(*) FROM products.products").fetchone()
                assert found == (expected,), f"{way}: {found} rows, not {expected}"
            return spent

        taken_by = taken(list(ways), rounds, run)
    return [
        {
            "call": call,
            "rows of a batch": size,
            "rows/s": ways[call, size][1] / statistics.median(run.wall for run in runs),
            **median(runs, 1e6 / ways[call, size][1]),
        }
        for (call, size), runs in taken_by.items()
    ]


def header(job: str, number: int, rows: int) -> pb.LoadHeader:
    """Of a batch without rejects."""
    return pb.LoadHeader(key=receipt_pb2.BatchKey(job_id=job, batch_no=number), rows=rows)


def requests(job: str, number: int, rows: int, stream: bytes) -> Iterator[bytes]:
    """As the executor makes them."""
    yield pb.LoadRequest(header=header(job, number, rows)).SerializeToString()
    for start in range(0, len(stream), 1 << 20):
        yield chunk_to(memoryview(stream)[start : start + (1 << 20)])


def at_once(one: Callable[[int], None], count: int) -> None:
    """As many as an executor has in flight."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(one, range(count)))


def taken(ways: list[Any], rounds: int, run: Callable[[Any], Spent]) -> dict[Any, list[Spent]]:
    """All in turn, after a round that warms up."""
    found: dict[Any, list[Spent]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in reversed(ways) if number % 2 else ways:
            spent = run(way)
            if number:
                found[way].append(spent)
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc", description="What gRPC costs.")
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--bytes", type=int, default=256 << 20, help="of a stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        port = free_port()
        null = subprocess.Popen([sys.executable, "-m", "benchmarks.grpc.null", str(port)])
        try:
            ready(port)
            results["wire"] = over_the_wire(f"127.0.0.1:{port}", null.pid, asked.bytes, asked.rounds)
            results["unary"] = small_calls(f"127.0.0.1:{port}", null.pid, asked.rounds)
        finally:
            null.terminate()
            null.wait()
        server = EmbeddedPostgres(Path(place) / "postgres")
        server.start()
        try:
            port = free_port()
            settings = {
                "DATABASE_URL": server.dsn,
                "JWT_SECRET": SECRET,
                "JOBBER_GRPC_PORT": str(port),
                "JOBBER_HTTP_PORT": "0",
            }
            with (Path(place) / "service.log").open("wb") as log:
                service = subprocess.Popen([sys.executable, "-m", "api.products.main"], env=settings, stderr=log)
            try:
                ready(port)
                assert server.process
                pids = {"service": service.pid, "postgres": server.process.pid}
                results["load"] = real(f"127.0.0.1:{port}", pids, server.dsn, asked.rows, asked.rounds)
            finally:
                service.terminate()
                service.wait(20)
        finally:
            server.stop()
    print("CPU seconds: for a GB; for a million calls; for a million rows")
    print(*(report.table(part) for part in results.values()), sep="\n\n")
    file = report.write("grpc", {"rows": asked.rows, **results}, asked.json)
    rates = {f"{line['call']} {line['rows of a batch']}": line["rows/s"] for line in results["load"]}
    print(report.draw(file, bars("Rows a second through the products service, by rows of a batch", rates)))
    return 0


def ready(port: int) -> None:
    """Wait for the service."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(30)


if __name__ == "__main__":
    sys.exit(main())
