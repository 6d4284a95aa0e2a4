"""What people submit, with what must become of it; the dice alone decide."""

import gzip
import json
import random
from pathlib import Path

from jobber.jobtypes.fibonacci import sequence
from jobber.model import PLAIN, WriteMode, Writing
from tests.chaos.model import Bad, Known

#: Records of an input; most people have few.
SIZES = (1, 1, 2, 10, 10, 300, 3_000, 20_000, 60_000, 100_000)
FORMS = ("csv", "ndjson", "json")
#: Records of a chain's job.
LINKS = (1, 5, 40, 3_000, 30_000)
#: How the keys of a chain's jobs begin: NEVER's queries (compare.py) leave them out.
CHAIN = "chain-"
#: How rows are written that have names of their own. Most are new rows, each batch by itself.
WRITINGS = (*[PLAIN] * 7, Writing(whole=True), Writing(whole=True), Writing(dry_run=True), Writing(whole=True, dry_run=True))
Records = list[tuple[str, str]]


def any_job(key: str, dice: random.Random, folder: Path) -> tuple[Known, Path | None]:
    """A job, and the file that is to be uploaded for it; without one its data are inline."""
    throw = dice.random()
    if throw < 0.08:
        return numbers(key, dice), None
    if throw < 0.16:
        return poison(key, dice), None
    count = dice.choice(SIZES)
    rows = ((f"{key} {row}", f"{dice.randint(0, 99_999) / 100:.2f}") for row in range(1, count + 1))
    known, path = products(key, dice, list(rows), folder)
    known.writing = dice.choice(WRITINGS)
    return known, path


def link(key: str, dice: random.Random, folder: Path, chain: str) -> tuple[Known, Path | None]:
    """The next job of a chain: products by their names, which come again and again, within an input and in several."""
    names, prices = dice.choice((5, 50, 1000)), ("1.00", "2.00", "3.00")
    rows = [(f"chain {chain} {dice.randrange(names)}", dice.choice(prices)) for _ in range(dice.choice(LINKS))]
    mode = dice.choice((WriteMode.UPSERT, WriteMode.UPSERT, WriteMode.UPDATE))
    writing = Writing(mode=mode, keys=("name",), dry_run=dice.random() < 0.2)
    if dice.random() < 0.1:
        # A name that two products have is no key any more.
        rows, writing = rows[:2], Writing(whole=True)
    known, path = products(f"{CHAIN}{key}", dice, rows, folder)
    known.writing, known.chain = writing, chain
    return known, path


def products(key: str, dice: random.Random, rows: Records, folder: Path) -> tuple[Known, Path | None]:
    """Products, some of them bad in a known way; in a file, unless they are few."""
    form = dice.choice(FORMS) if len(rows) > 10 or dice.random() < 0.3 else "inline"
    known = Known("", "LoadProducts", key, None, {}, {})
    raw = _csv if form == "csv" else _json
    share = dice.choice((0, 0, 0.01, 0.3))
    records: Records = []
    for row, record in enumerate(rows, 1):
        name, price = record
        if dice.random() >= share:
            known.good[row] = record
        elif row % 2:
            record = (name, "-1")
            known.bad[row] = Bad("RANGE", "price", "price must be at least 0; got -1", raw(record))
        else:
            record = ("", price)
            known.bad[row] = Bad("REQUIRED", "name", "name is required", raw(record))
        records.append(record)
    known.raw = {row: raw(record) for row, record in known.good.items()} if key.startswith(CHAIN) else {}
    if known.bad and dice.random() < 0.2:
        known.max_errors = dice.choice((0, len(known.bad) // 2, len(known.bad)))
    if form == "inline":
        known.data = f"[{', '.join(map(_json, records))}]"
        return known, None
    path = folder / f"{key}.{form}"
    path.write_text(_file(form, records))
    if dice.random() < 0.3:
        # It is packed while it comes, or by a planner.
        path.write_bytes(gzip.compress(path.read_bytes(), 1, mtime=0))
    return known, path


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
    writing, limit = dice.choice(((PLAIN, None), (PLAIN, None), (Writing(whole=True), 1), (Writing(whole=True), None)))
    data = f"[{', '.join(map(_json, records))}]"
    return Known("", "Poisonous", key, data, good, bad, max_errors=limit, writing=writing)


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
