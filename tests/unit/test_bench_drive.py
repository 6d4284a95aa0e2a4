"""The benchmarks' client counts what came back, and nothing else."""

import asyncio
from collections.abc import Sequence

import pytest

from benchmarks import drive, report

MADE = b'{"data":{"executeJob":{"id":"0192a1b2-0000-7000-8000-000000000001","status":"IN_PROGRESS"}}}'


async def _served(parts: Sequence[bytes], clients: int, seconds: float) -> drive.Answers:
    """A flood against a server that answers each request with the same bytes, in these parts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = drive.request("http://127.0.0.1/graphql", "token", drive.submission(2))
        try:
            while True:
                await reader.readexactly(len(asked))
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        asked = drive.request("http://127.0.0.1/graphql", "token", drive.submission(2))
        return await drive.flood(f"http://127.0.0.1:{port}/graphql", asked, clients, seconds)


def _response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.mark.parametrize("cut", [1, 17, 60, 100])
async def test_an_answer_in_pieces_is_one_answer(cut: int) -> None:
    whole = _response(200, MADE)
    answers = await _served([whole[:cut], whole[cut:]], clients=3, seconds=0)
    assert (answers.ids, answers.refused, answers.wrong) == (["0192a1b2-0000-7000-8000-000000000001"] * 3, {}, [])
    assert len(answers.seconds) == 3


@pytest.mark.parametrize(
    ("status", "body", "refused", "wrong"),
    [(429, b"{}", {429: 2}, 0), (503, b"{}", {503: 2}, 0), (500, b"{}", {}, 2), (200, b'{"errors":[{}],"id":"x"}', {}, 2)],
)
async def test_what_was_not_made_is_not_counted(status: int, body: bytes, refused: dict[int, int], wrong: int) -> None:
    answers = await _served([_response(status, body)], clients=2, seconds=0)
    assert (answers.ids, answers.seconds, answers.refused, len(answers.wrong)) == ([], [], refused, wrong)


def test_quantiles_of_few_and_of_many() -> None:
    assert report.quantile([3, 1, 2], 0.5) == 2
    assert report.quantile(list(range(1, 101)), 0.99) == 100
    assert report.quantile([1.5], 0.99) == 1.5
