"""What people submit, with what must become of it; the dice alone decide."""

import json
import random
from pathlib import Path

from jobber.jobtypes.fibonacci import sequence
from tests.chaos.model import Bad, Known

#: Records of an input; most people have few.
SIZES = (1, 1, 2, 10, 10, 300, 3_000, 20_000, 60_000, 100_000)
FORMS = ("csv", "ndjson", "json")
Records = list[tuple[str, str]]


def any_job(key: str, dice: random.Random, folder: Path) -> tuple[Known, Path | None]:
    """A job, and the file that is to be uploaded for it; without one its data are inline."""
    throw = dice.random()
    if throw < 0.08:
        return numbers(key, dice), None
    if throw < 0.16:
        return poison(key, dice), None
    count = dice.choice(SIZES)
    form = dice.choice(FORMS) if count > 10 or dice.random() < 0.3 else "inline"
    records, known = products(key, dice, count, form)
    if known.bad and dice.random() < 0.2:
        known.max_errors = dice.choice((0, len(known.bad) // 2, len(known.bad)))
    if form == "inline":
        known.data = f"[{', '.join(map(_json, records))}]"
        return known, None
    path = folder / f"{key}.{form}"
    path.write_text(_file(form, records))
    return known, path


def products(key: str, dice: random.Random, count: int, form: str) -> tuple[Records, Known]:
    """Products with a name of their own each, some of them bad in a known way."""
    records: Records = []
    known = Known("", "LoadProducts", key, None, {}, {})
    raw = _csv if form == "csv" else _json
    share = dice.choice((0, 0, 0.01, 0.3))
    for row in range(1, count + 1):
        record = (f"{key} {row}", f"{dice.randint(0, 99_999) / 100:.2f}")
        if dice.random() >= share:
            known.good[row] = record
        elif row % 2:
            record = (record[0], "-1")
            known.bad[row] = Bad("RANGE", "price", "price must be at least 0; got -1", raw(record))
        else:
            record = ("", record[1])
            known.bad[row] = Bad("REQUIRED", "name", "name is required", raw(record))
        records.append(record)
    return records, known


def numbers(key: str, dice: random.Random) -> Known:
    """Fibonacci numbers."""
    wanted = [dice.randint(0, 300) for _ in range(dice.choice((1, 5, 40)))]
    values = sequence(sorted(set(wanted)))
    good = {row: (str(n), values[n]) for row, n in enumerate(wanted, 1)}
    return Known("", "Fibonacci", key, json.dumps([{"iterations": n} for n in wanted]), good, {})


def poison(key: str, dice: random.Random) -> Known:
    """One record ends whoever reads it (tests/support/poison.py); the others are innocent."""
    count = dice.choice((1, 5, 400))
    guilty = {dice.randint(1, count): dice.choice(("kill", "exit", "abort", "segfault"))}
    records = [(guilty.get(row, f"{key} {row}"), "1.50") for row in range(1, count + 1)]
    good = {row: record for row, record in enumerate(records, 1) if row not in guilty}
    bad = {row: Bad("POISON", None, "This record ends whoever reads it", _json(records[row - 1])) for row in guilty}
    return Known("", "Poisonous", key, f"[{', '.join(map(_json, records))}]", good, bad)


def _file(form: str, records: Records) -> str:
    if form == "csv":
        return "name,price\n" + "".join(f"{_csv(record)}\n" for record in records)
    if form == "ndjson":
        return "".join(f"{_json(record)}\n" for record in records)
    return f"[{', '.join(map(_json, records))}]"


def _csv(record: tuple[str, str]) -> str:
    return f'"{record[0]}",{record[1]}'


def _json(record: tuple[str, str]) -> str:
    return f'{{"name": {json.dumps(record[0])}, "price": {record[1]}}}'
