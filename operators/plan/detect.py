"""Tell an input's format by its content. What is not text we read is refused with what was seen."""

import msgspec

from jobber.errors import StructureFault
from jobber.model import Format, InputOptions
from operators.plan.buffer import Buffer

#: Bytes that are looked at.
LOOK = 64 << 10

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_FOREIGN = (
    (b"\x1f\x8b", "It is compressed with gzip more than once; unpack it first."),
    (b"\x28\xb5\x2f\xfd", "It is compressed with zstd more than once; unpack it first."),
    (b"PK\x03\x04", "It is a zip archive; unpack it and upload the file itself."),
    (b"BZh", "It is compressed with bzip2; unpack it first."),
    (b"\xfd7zXZ", "It is compressed with xz; unpack it first."),
    (b"%PDF", "It is a PDF document."),
    (b"\0\0\0\0", "It begins with NUL characters, which no text has."),
)


def detect(buffer: Buffer, options: InputOptions) -> Format:
    """The format of a text in UTF-8, as told or as seen; drops a byte-order mark. Raises StructureFault."""
    buffer.fill(LOOK)
    head = buffer.bytes()[:LOOK]
    if not head:
        raise StructureFault("EMPTY", "The file is empty.")
    for magic, message in _FOREIGN:
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] == b"1AY&SY"):  # "BZh" alone might be a column's name
            raise StructureFault("FORMAT", message)
    if head.startswith(b"\xef\xbb\xbf"):
        buffer.drop(3)
        head = head[3:]
    return options.format or _seen(head)


def _seen(head: bytes) -> Format:
    text = head.lstrip(b" \t\r\n")
    if text[:1] == b"[":
        return Format.JSON
    if text[:1] != b"{":
        return Format.CSV
    line, found, rest = text.partition(b"\n")
    if not found or not rest.strip():
        return Format.NDJSON
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        # One object over several lines is one record. Where the next line is an object of its own, this is a broken record.
        return Format.NDJSON if rest.lstrip()[:1] == b"{" else Format.JSON
    return Format.NDJSON


def record_line(head: bytes) -> int | None:
    """Number of the first line that is a record by itself, as in NDJSON; None for what looks like something else.

    In a document whose records stand in lines of their own, these end in a comma.
    """
    start = head.lstrip(b" \t\r\n")[:64]
    if b"}" not in head or (start[:1] == b"[" and start[1:].lstrip(b" \t\r\n")[:1] == b"{"):
        return None
    lines = head.split(b"\n")[: None if len(head) < LOOK else -1]
    if any(line.rstrip(b" \t\r").endswith(b"},") for line in lines):
        return None
    return next((number for number, line in enumerate(lines, 1) if is_record(line)), None)


def is_record(line: bytes) -> bool:
    """Whether the line is an object, and nothing else."""
    if line.lstrip(b" \t")[:1] != b"{":
        return False
    try:
        _object.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False
    return True
