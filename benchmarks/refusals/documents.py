"""Requests that must be refused, and quickly: what they are called, what is sent, and how they may be answered."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attack:
    """One request to `/graphql`."""

    name: str
    body: bytes
    #: One of these HTTP statuses; 200 only with errors and without data.
    statuses: tuple[int, ...] = (200, 400, 413)


def attacks(seed: int) -> Iterator[Attack]:
    """Every attack, with names and numbers that no cache has seen."""
    dice = random.Random(seed)
    mark = f"x{dice.randrange(1 << 40):x}"
    yield _query("fragment bomb, 2^16 fields", _bomb(mark, 16))
    yield _query("fragment bomb in depth", _deep_bomb(mark, 14))
    yield _query(
        "circle of fragments", f"{{ ...{mark} }} fragment {mark} on Query {{ ...b }} fragment b on Query {{ ...{mark} }}"
    )
    yield _query("10,000 aliases", "{" + " ".join(f"{mark}{n}: __typename" for n in range(10_000)) + "}")
    yield _query("1,000 logins", "mutation {" + " ".join(_login(f"{mark}{n}") for n in range(1_000)) + "}")
    yield _query("100 logins", "mutation {" + " ".join(_login(f"{mark}{n}") for n in range(100)) + "}")
    yield _query("5,000 levels", f"{{ {mark}: jobs " + "{ parent " * 5_000 + "{ id }" + "}" * 5_001)
    lists = "[" * 5_000 + "]" * 5_000
    yield _query("5,000 lists in a literal", f'mutation {{ {mark}: executeJob(input: {{name: "a", data: {lists}}}) {{ id }} }}')
    yield _query("10,000 directives", f"{{ {mark}: __typename " + "@include(if: true) " * 10_000 + "}")
    yield _query("10,000 variables", "query(" + "$v: Int " * 10_000 + f") {{ {mark}: __typename }}")
    yield _query("2 MB comment", f"{{ {mark}: __typename }} #" + "c" * (2 << 20))
    yield _query("2 MB name", "{ " + mark + "n" * (2 << 20) + " }")
    yield _query("pages of a million", f"{{ {mark}: jobsConnection(first: 1000000) {{ edges {{ node {{ id }} }} }} }}")
    circles = "fields { type { " * 8 + "name" + "}}" * 8
    yield _query("introspection in circles", f"{{ {mark}: __schema {{ types {{ {circles} }} }} }}")
    yield _query("a field that is not there, a thousand times", "{" + " ".join(f"{mark}n{n}" for n in range(1_000)) + "}")
    yield _query("a broken text", f"{{ {mark} " * 200)
    yield Attack("array batching", json.dumps([{"query": f"{{ {mark}: __typename }}"}] * 1_000).encode())
    yield Attack("no JSON", mark.encode() * 1_000)
    yield Attack("100,000 brackets", b"[" * 100_000 + mark.encode())


def _query(name: str, text: str) -> Attack:
    return Attack(name, json.dumps({"query": text}).encode())


def _login(alias: str) -> str:
    return f'{alias}: login(input: {{email: "a@b.example", password: "{alias}"}}) {{ token }}'


def _bomb(mark: str, doublings: int) -> str:
    parts = [f"fragment {mark}{n} on Query {{ a{n}: __typename ...{mark}{n + 1} ...{mark}{n + 1} }}" for n in range(doublings)]
    return f"{{ ...{mark}0 }} {' '.join(parts)} fragment {mark}{doublings} on Query {{ __typename }}"


def _deep_bomb(mark: str, doublings: int) -> str:
    parts = [
        f"fragment {mark}{n} on Job {{ a: parent {{ ...{mark}{n + 1} }} b: parent {{ ...{mark}{n + 1} }} }}"
        for n in range(doublings)
    ]
    return f"{{ jobs {{ ...{mark}0 }} }} {' '.join(parts)} fragment {mark}{doublings} on Job {{ id }}"
