"""What becomes of records that are written by their keys: as if one by one, in the order of the input, in plain Python."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobber.model import WriteMode
from tests.chaos.model import Bad, Known

#: Price, the job and the row that it came from.
Row = tuple[str, str, int]
#: Name -> the products that have it; several only where INSERT made them.
Products = Mapping[str, tuple[Row, ...]]


@dataclass
class Written:
    """What a job comes to when it is published."""

    after: dict[str, tuple[Row, ...]]
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    #: Good records that are rejected, as no product, or more than one, has their name.
    lost: dict[int, Bad] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, int, int]:
        """As receipts have them."""
        return self.inserted, self.updated, self.unchanged


def written(before: Products, job: Known) -> Written:
    """The products after the job, and what it has to say of its records."""
    made, mode = Written(dict(before)), job.writing.mode
    for row, (name, price) in sorted(job.good.items()):
        there = made.after.get(name, ())
        new = (price, job.id, row)
        if mode is WriteMode.INSERT:
            made.after[name] = (*there, new)
            made.inserted += 1
        elif len(there) > 1:
            message = "more than one product has this name; which one is meant cannot be told"
            made.lost[row] = Bad("NOT_UNIQUE", "name", message, job.raw[row])
        elif not there and mode is WriteMode.UPDATE:
            message = "there is no product with this name, and UPDATE makes none"
            made.lost[row] = Bad("NOT_FOUND", "name", message, job.raw[row])
        elif there and there[0][0] == price:
            made.unchanged += 1
        else:
            made.after[name] = (new,)
            made.inserted += not there
            made.updated += bool(there)
    return made
