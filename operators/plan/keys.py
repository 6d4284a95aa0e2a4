"""The keys of a JSON input's first record: told to the submitter where the contract's are others."""

import json

#: Bytes in which the first record has to end for its keys to be seen.
LOOK = 64 << 10
#: A record with more keys is no row of a table.
MOST = 100
#: A longer key is no column's name.
LONGEST = 200

# Digits stay text: making a number of five thousand of them takes long.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def first_keys(head: bytes) -> tuple[str, ...]:
    """The keys of the object that the text begins with, as far as a person can read them; none where there is no whole one."""
    try:
        first, _ = _decoder.raw_decode(head.decode(errors="ignore").lstrip(" \t\r\n"))
    except (ValueError, RecursionError):
        return ()
    if not isinstance(first, dict) or len(first) > MOST:
        return ()
    return tuple(key for key in first if key.isprintable() and len(key) <= LONGEST)
