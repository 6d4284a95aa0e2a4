"""Inputs of products, with a known sprinkling of what real files have."""

import json
import random
from pathlib import Path
from typing import Any

from tests.support.oracle import COLUMNS

CATEGORIES = ("Books", "Toys", "Home", "No Such Category", None)

#: Text of a field that CSV must take, or reject, as the oracle says.
CSV_PRICES = (
    "-3",
    "-0",
    "0",
    " 1.50",
    "1.555",
    "1e3",
    "NaN",
    "inf",
    "",
    "$5",
    "1_000",
    ".5",
    "1.",
    "twelve",
    "9999999999.99",
    "99999999999",
)
CSV_STOCKS = ("007", "1.5", "-1", "2147483647", "2147483648", "many", "")
CSV_RATINGS = ("5", "5.01", "-1", "4.555", "", "good")
#: The same as JSON.
JSON_PRICES = ("-3", "0", "1.5", "1.555", "true", '"12"', "null", "9999999999.99", "99999999999", "[1]")
JSON_STOCKS = ("7", "1.5", "-1", "2147483647", "2147483648", '"7"', "null")
JSON_RATINGS = ("5", "5.01", "-1", "4.555", "null", '"good"')


def records(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Good ones; numbers as text."""
    dice = random.Random(seed)
    return [
        {
            "name": f"Product {number} {'ä' * (number % 3)}",
            "category": dice.choice(CATEGORIES),
            "price": f"{dice.randint(0, 100_000) / 100:.2f}",
            "stock": str(dice.randint(0, 500)) if number % 7 else None,
            "rating": f"{dice.randint(0, 50) / 10:.1f}" if number % 5 else None,
            "description": f"About {number}; no comma" if number % 4 else None,
        }
        for number in range(1, count + 1)
    ]


def write_csv(path: Path, count: int, *, broken: bool = True, seed: int = 1) -> Path:
    """A CSV file without quotes; every 20th row has something odd."""
    dice = random.Random(seed)
    with path.open("w", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for number, record in enumerate(records(count, seed), 1):
            fields = [record[name] or "" for name in COLUMNS]
            if broken and number % 20 == 0:
                kind = dice.randrange(6)
                if kind == 0:
                    fields = fields[:-1]
                elif kind == 1:
                    fields = [*fields, "more"]
                elif kind == 2:
                    fields[0] = ""
                else:
                    column, values = ((2, CSV_PRICES), (3, CSV_STOCKS), (4, CSV_RATINGS))[kind - 3]
                    fields[column] = dice.choice(values)
            file.write(",".join(fields) + "\n")
    return path


def write_json(path: Path, count: int, seed: int = 2) -> Path:
    """NDJSON or a JSON array, by the file's name; every 20th record has something odd."""
    dice = random.Random(seed)
    lines = []
    for number, record in enumerate(records(count, seed), 1):
        texts = {name: json.dumps(value, ensure_ascii=number % 2 == 0) for name, value in record.items()}
        texts |= {name: record[name] or "null" for name in ("price", "stock", "rating")}
        if number % 20 == 0:
            kind = dice.randrange(5)
            if kind == 0:
                del texts["name"]
            elif kind == 1:
                texts["name"] = dice.choice(("null", "12", '""', "{}"))
            else:
                column, values = (("price", JSON_PRICES), ("stock", JSON_STOCKS), ("rating", JSON_RATINGS))[kind - 2]
                texts[column] = dice.choice(values)
        lines.append("{" + ", ".join(f'"{name}": {text}' for name, text in texts.items()) + "}")
    body = "\n".join(lines) + "\n" if path.suffix == ".ndjson" else "[" + ",\n ".join(lines) + "]"
    path.write_text(body)
    return path
