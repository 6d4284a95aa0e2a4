"""Streams the one file of a multipart/form-data body (RFC 7578), never holding more than a chunk of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from jobber.errors import InvalidData


@dataclass(slots=True)
class _Reading:
    """What the parser's callbacks have seen."""

    header: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    in_file: bool = False
    file_name: str | None = None
    done: bool = False
    chunks: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """The part called `file`: its name as the client gave it, and its bytes as they come."""

    name: str
    chunks: AsyncIterator[bytes]


async def incoming_file(request: Request) -> IncomingFile:
    """Read up to the beginning of the part called `file`.

    Raises InvalidData when the body is no multipart form or holds no such part.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = parameters.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidData("Send the file as multipart/form-data, in a part called `file`.")
    reading = _Reading()
    parser = MultipartParser(boundary, _callbacks(reading))
    stream = request.stream()
    async for chunk in stream:
        _feed(parser, chunk)
        if reading.file_name is not None:
            return IncomingFile(reading.file_name, _rest(reading, parser, stream))
    raise InvalidData("There is no part called `file` with a file name in the form.")


async def _rest(reading: _Reading, parser: MultipartParser, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        for chunk in reading.chunks:
            yield chunk
        reading.chunks.clear()
        try:
            _feed(parser, await anext(stream))
        except StopAsyncIteration:
            break
    for chunk in reading.chunks:
        yield chunk
    if not reading.done:
        raise InvalidData("The upload ended before the file did; nothing of it was kept.")


def _feed(parser: MultipartParser, chunk: bytes) -> None:
    try:
        parser.write(chunk)
    except FormParserError as fault:
        raise InvalidData(f"The multipart form is malformed: {fault}") from fault


def _callbacks(reading: _Reading) -> "python_multipart.multipart.MultipartCallbacks":
    def part_begin() -> None:
        reading.headers.clear()

    def header_field(data: bytes, start: int, end: int) -> None:
        reading.header += data[start:end].lower()
        if len(reading.header) > 1000:
            raise InvalidData("A header of the multipart form is too long.")

    def header_value(data: bytes, start: int, end: int) -> None:
        reading.headers[reading.header] = reading.headers.get(reading.header, b"") + data[start:end]

    def header_end() -> None:
        reading.header = b""

    def headers_finished() -> None:
        _, options = parse_options_header(reading.headers.get(b"content-disposition", b""))
        wanted = options.get(b"name") == b"file" and b"filename" in options
        if wanted and reading.file_name is None:
            reading.in_file = True
            reading.file_name = options[b"filename"].decode(errors="replace")

    def part_data(data: bytes, start: int, end: int) -> None:
        if reading.in_file:
            reading.chunks.append(data[start:end])

    def part_end() -> None:
        if reading.in_file:
            reading.in_file, reading.done = False, True

    return {
        "on_part_begin": part_begin,
        "on_header_field": header_field,
        "on_header_value": header_value,
        "on_header_end": header_end,
        "on_headers_finished": headers_finished,
        "on_part_data": part_data,
        "on_part_end": part_end,
    }
