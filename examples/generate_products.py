"""Write products.csv: 100,000 products as a shop would send them, one in a hundred broken on purpose.

    python examples/generate_products.py [FILE] [ROWS]

The same rows every time. Standard library only.
"""

import csv
import random
import sys
from collections.abc import Iterator
from pathlib import Path

ROWS = 100_000
SEED = 20_240_607
#: One row in so many is broken.
BROKEN_EVERY = 100
HEADER = ("name", "category", "price", "stock", "rating", "description")

#: Category -> its nouns, with the span of their prices in cents. Music has no charge in a fresh Jobber.
GOODS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "Electronics": (
        ("Headphones", 1_999, 34_900),
        ("Keyboard", 1_490, 18_900),
        ("Monitor", 9_900, 89_900),
        ("Power Bank", 990, 7_900),
        ("Webcam", 1_990, 19_900),
    ),
    "Books": (("Atlas", 1_200, 9_900), ("Cookbook", 990, 4_500), ("Novel", 499, 2_490), ("Field Guide", 890, 3_900)),
    "Clothing": (("Jacket", 3_900, 39_900), ("Jumper", 1_900, 14_900), ("Socks, 3 pairs", 490, 2_490), ("T-Shirt", 690, 4_900)),
    "Home": (("Desk Lamp", 1_290, 15_900), ("Kettle", 1_490, 12_900), ("Towel Set", 990, 7_900), ("Wall Clock", 990, 9_900)),
    "Sports": (("Bicycle Pump", 990, 7_900), ("Football", 890, 5_900), ("Tent", 4_900, 69_900), ("Yoga Mat", 990, 8_900)),
    "Toys": (
        ("Jigsaw, 1000 pieces", 890, 3_900),
        ("Kite", 590, 4_900),
        ("Model Railway", 3_900, 49_900),
        ("Teddy Bear", 790, 5_900),
    ),
    "Garden": (("Hose, 25 m", 1_490, 7_900), ("Rake", 890, 4_900), ("Seed Box", 190, 1_490), ("Watering Can", 690, 3_900)),
    "Music": (("Guitar Strings", 490, 2_990), ("Metronome", 990, 5_900), ("Ukulele", 2_900, 29_900)),
}
ADJECTIVES = (
    "Classic",
    "Compact",
    "Everyday",
    "Folding",
    "Light",
    "Nordic",
    "Pro",
    "Quiet",
    "Recycled",
    "Robust",
    "Slim",
    "Travel",
)
MAKERS = (
    "Ahorn",
    "Brightwater",
    "Çelik",
    "Dunmore",
    "Élan",
    "Fjord & Co",
    "Graß",
    "Harbour",
    "Ikeda",
    "Juniper",
    "Kestrel",
    "Łódka",
)
COLOURS = ("anthracite", "blue", "cream", "forest green", "graphite", "ochre", "red", "sand", "white")
PRAISE = (
    "Comes with a two-year guarantee.",
    'Reviewers call it "the one to have".',
    "Packed without plastic.",
    "Made in small batches, so that colours vary a little.",
    "Spare parts are available for ten years.",
    "Ships flat; assembly takes five minutes.",
)


def rows(count: int = ROWS, seed: int = SEED) -> Iterator[list[str]]:
    """`count` rows in the order of HEADER; a short row has fewer fields."""
    dice = random.Random(seed)
    categories = list(GOODS)
    for number in range(1, count + 1):
        category = dice.choice(categories)
        noun, low, high = dice.choice(GOODS[category])
        maker, adjective, colour = dice.choice(MAKERS), dice.choice(ADJECTIVES), dice.choice(COLOURS)
        cents = dice.randint(low // 10, high // 10) * 10 - dice.choice((1, 1, 5, 10))
        row = [
            f"{maker} {adjective} {noun}, {colour}, no. {number}",
            category if dice.random() > 0.03 else "",
            f"{cents / 100:.2f}",
            str(int(dice.paretovariate(1.2) * 4)) if dice.random() > 0.02 else "",
            f"{min(5.0, max(1.0, dice.gauss(4.1, 0.6))):.1f}" if dice.random() > 0.1 else "",
            " ".join(dice.sample(PRAISE, dice.randint(1, 3))),
        ]
        if dice.randrange(BROKEN_EVERY) == 0:
            row = broken(row, dice)
        yield row


def broken(row: list[str], dice: random.Random) -> list[str]:
    """The row with one or two mistakes of the kinds that real files have."""
    name, category, price, stock, rating, description = row
    kind = dice.randrange(10)
    if kind == 0:
        name = ""
    elif kind == 1:
        price = f"-{price}"
    elif kind == 2:
        price = f"{price}5"
    elif kind == 3:
        price = dice.choice(("twelve", "on request", "N/A", "$9.99"))
    elif kind == 4:
        price = ""
    elif kind == 5:
        stock = dice.choice(("plenty", "1.5", "-4", "3000000000"))
    elif kind == 6:
        rating = dice.choice(("7.5", "-1", "five stars"))
    elif kind == 7:
        return [name, category, price]
    elif kind == 8:
        price = f"1,{price.rjust(6, '0')}"
    else:
        name, rating = "", "11"
    return [name, category, price, stock, rating, description]


def write(path: Path, count: int = ROWS, seed: int = SEED) -> None:
    """Write the file; a half-written one never has its name."""
    fresh = path.with_suffix(".part")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows(count, seed))
    fresh.replace(path)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("products.csv")
    write(target, int(sys.argv[2]) if len(sys.argv) > 2 else ROWS)
    print(target)
