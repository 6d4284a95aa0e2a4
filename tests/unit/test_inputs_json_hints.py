"""What is said of NDJSON and JSON that does not load as it is, where something would load it: an option, or a mapping."""

import json

import pytest

from tests.support.outcome import outcome

BEFORE, AFTER = b'{"name":"Before","price":1}', b'{"name":"After","price":1}'

#: Lines that are told to be NDJSON are that; else each is taken for something that it is not.
NOT_TOLD: dict[str, tuple[bytes, str]] = {
    "two broken ones, of which one looks like an object": (b"{bad\nworse\n%s\n%s\n", "SYNTAX"),
    "two broken ones, of which none does": (b"bad\nworse\n%s\n%s\n", "HEADER"),
    "null": (b"null\n%s\n%s\n", "HEADER"),
    "a text": (b'"Cup"\n1\n%s\n%s\n', "HEADER"),
    "an array": (b"[1]\n%s\n%s\n", "SYNTAX"),
    "half an array": (b'["Cup",\r\n1]\r\n%s\r\n%s\r\n', "SYNTAX"),
    "a record over two lines": (b'{"name":"Cup",\n"price":1}\n%s\n%s\n', "SYNTAX"),
}


@pytest.mark.parametrize("case", NOT_TOLD)
@pytest.mark.parametrize("told", [None, "JSON", "CSV"])
def test_lines_that_begin_with_something_else_fail_and_say_what_would_load_them(case: str, told: str | None) -> None:
    data, code = NOT_TOLD[case]
    data %= BEFORE, AFTER
    for window in (8 << 20, 3):
        found = outcome(data, window=window, format=told)
        assert told or found.fault == code
        assert found.message.endswith(
            ' Line 3 is a record by itself, as in NDJSON: the option format "NDJSON" would load it.'
            if case not in ("null", "an array")
            else ' Line 2 is a record by itself, as in NDJSON: the option format "NDJSON" would load it.'
        )
    found = outcome(data, format="NDJSON")
    assert found.names == ["Before", "After"]
    assert found.rejected == list(range(1, data.count(b"\n") - 1))


@pytest.mark.parametrize(
    "data",
    [
        b'[\n{"name":"Cup","price":1},\n{"name":"Cup","price":1}\n',
        b'[\n{"name":"Cup","price":1}\n',
        b'{"name":"Cup",\n"price":1}\n,\n',
        b'{"name":"Cup",\n"x":\n{"y":1},\n"price":1',
        b"title;cost\nCup;1\n",
    ],
)
def test_what_is_no_lines_of_records_is_not_said_to_be(data: bytes) -> None:
    found = outcome(data)
    assert found.fault
    assert "NDJSON" not in found.message


NEAR: dict[str, tuple[bytes, str | None]] = {
    "another case": (b'{"Name":"Cup","price":1}', '{"name": "Name"}'),
    "two in another case": (b'{"PRICE":1,"NAME":"Cup"}', '{"name": "NAME", "price": "PRICE"}'),
    "a letter": (b'{"name":"Cup","prize":1}', '{"price": "prize"}'),
    "space": (b'{"name":"Cup"," price ":1}', '{"price": " price "}'),
    "the nearest": (b'{"name":"Cup","prices":1,"prce":1,"Price":1}', '{"price": "Price"}'),
    "behind a far one": (b'{"sku":{"name":[1]},"names":"Cup","price":1}', '{"name": "names"}'),
    "quoted": (b'{"name":"Cup","p\\"rice":1}', '{"price": "p\\"rice"}'),
    "not required": (b'{"name":"Cup","price":1,"Stock":1}', None),
    "both": (b'{"name":"Cup","price":1,"Price":1}', None),
    "nothing near": (b'{"titel":"Cup","cost":1}', None),
    "half a surrogate": (b'{"name":"Cup","price\\ud800":1}', None),
    "no object": (b"[1]", None),
    "broken": (b'{"Name":"Cup","Price":1', None),
}


@pytest.mark.parametrize("case", NEAR)
@pytest.mark.parametrize("form", ["NDJSON", "JSON"])
def test_a_key_that_is_nearly_the_required_one_is_named(case: str, form: str) -> None:
    record, mapping = NEAR[case]
    if form == "JSON" and case == "broken":
        return
    data = b"[" + b",".join([record, AFTER]) + b"]" if form == "JSON" else b"\n" + b"\n".join([record, AFTER]) + b"\n"
    for size, window in ((8 << 20, 8 << 20), (10, 3)):
        found = outcome(data, format=form, batch_bytes=size, window=window)
        if mapping is None:
            assert found.warnings == ()
            continue
        [warning] = found.warnings
        assert warning.endswith(f" is meant, the option mapping {mapping} would load it.")
        for column in json.loads(mapping):
            assert repr(column) in warning
        assert outcome(
            data[: data.index(record) + len(record)] + b"]" * (form == "JSON"), format=form, mapping=json.loads(mapping)
        ).names == ["Cup"]


def test_a_mapped_key_may_be_another_one_nearly() -> None:
    data = b'{"name":"Cup","Net":1}'
    assert outcome(data, mapping={"price": "net"}).warnings[0].endswith('mapping {"price": "Net"} would load it.')
    assert outcome(data, mapping={"price": "Net"}).warnings == ()
