"""Texts in other encodings than UTF-8: recoded as they come, without a guess."""

import codecs
from collections.abc import Iterable, Iterator

from jobber.errors import StructureFault

UTF8 = "utf-8"
#: What the option may name, as Python's codecs call them. Others (idna, unicode_escape, …) are no encodings of files.
KNOWN = frozenset(
    {
        "utf-8",
        "ascii",
        *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
        *(f"iso8859-{part}" for part in range(1, 17) if part != 12),
        *(f"cp{page}" for page in (437, 720, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865, 866, 869, 874)),
        *(f"cp{page}" for page in range(1250, 1259)),
        *(
            "cp932",
            "shift_jis",
            "euc_jp",
            "iso2022_jp",
            "gb2312",
            "gbk",
            "gb18030",
            "big5",
            "cp950",
            "cp949",
            "euc_kr",
        ),
        *("koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "mac-greek", "mac-latin2", "mac-turkish", "tis-620"),
    }
)
#: Marks with which a file can say what it is, and names of that; UTF-16's is the beginning of UTF-32's.
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32", "utf-32-be"),
    (b"\xef\xbb\xbf", UTF8, UTF8),
    (b"\xff\xfe", "utf-16", "utf-16-le"),
    (b"\xfe\xff", "utf-16", "utf-16-be"),
)
#: Bytes of a file of which every other one is looked at.
_LOOK = 256
#: What stands for bytes that are no text in their encoding: half of a surrogate pair, which is none in UTF-8 either, so that
#: their record is rejected, and only theirs.
_BROKEN = "\udfff"
_ERRORS = "jobber.broken"


def canonical(name: str) -> str | None:
    """The encoding of that name; None when there is none, or none that files have. ASCII is UTF-8."""
    try:
        found = codecs.lookup(name).name if name.isascii() and "\0" not in name else ""
    except LookupError:
        return None
    found = {"utf-8-sig": UTF8, "ascii": UTF8}.get(found, found)
    return found if found in KNOWN else None


def encoding_of(head: bytes, told: str) -> str:
    """The encoding of a text that begins so. Raises StructureFault (ENCODING) when it is plainly not what it was told to be."""
    encoding = canonical(told)
    if encoding is None:
        raise StructureFault(
            "ENCODING", f"{told[:60]!r} is no encoding that is read; utf-16 and windows-1252 are, for example."
        )
    for mark, seen, ordered in _MARKS:
        if head.startswith(mark):
            if encoding not in (seen, ordered):
                raise _other(f"It is {seen.upper()} by its byte-order mark", seen)
            return encoding
    if encoding in ("utf-16", "utf-32"):
        what = f"It has no byte-order mark, which would say how its {encoding.upper()} is ordered"
        order = _sixteen(head) or f"{encoding}-le"
        raise StructureFault("ENCODING", f'{what}: the option encoding must be "{order}", or the other order.')
    if encoding == UTF8 and (likely := _sixteen(head)):
        raise _other("It looks like UTF-16 (every other byte is NUL)", likely)
    return encoding


def mark_of(head: bytes) -> str | None:
    """The encoding that the byte-order mark of a text says, if it has one."""
    return next((seen for mark, seen, _ in _MARKS if head.startswith(mark)), None)


def _sixteen(head: bytes) -> str | None:
    """UTF-16 without a mark: nearly every other byte of a header or of a key is NUL."""
    # Where all are NUL, it is neither.
    rare = [half.count(0) * 4 > len(half) * 3 for half in (head[0:_LOOK:2], head[1:_LOOK:2])]
    return None if rare[0] is rare[1] else "utf-16-be" if rare[0] else "utf-16-le"


def _other(seen: str, option: str) -> StructureFault:
    return StructureFault("ENCODING", f'{seen}: the option encoding "{option}" would load it, or save it as UTF-8.')


def recoded(windows: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text as UTF-8; bytes that are none in the encoding become bytes that are none in UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)(_ERRORS)
    for window in windows:
        yield decoder.decode(window).encode(UTF8, "surrogatepass")
    yield decoder.decode(b"", True).encode(UTF8, "surrogatepass")


def _broken(fault: UnicodeError) -> tuple[str, int]:
    assert isinstance(fault, UnicodeDecodeError)
    return _BROKEN, fault.end


codecs.register_error(_ERRORS, _broken)
