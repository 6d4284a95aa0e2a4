"""Five loaded products, side by side with what the file said: so that a person sees the enrichment."""

import csv
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.text import Text

from jobber.cli.progress import cut, table
from protos.client import OPTIONS, credential, target
from protos.jobber.products.v1 import products_pb2, products_pb2_grpc

#: How many are shown, and among how many they are chosen.
SHOWN, LOOKED_AT = 5, 200
NOTHING = "-"


def show_samples(out: Console, file: Path, address: str, token: str, job_id: str) -> None:
    """Print a table of five products as the products service answers them over gRPC, of different categories."""
    with grpc.insecure_channel(target(address), options=OPTIONS) as channel:
        stub = products_pb2_grpc.ProductsServiceStub(channel)
        proof = tuple(credential(token))
        page = stub.ListProducts(products_pb2.ListProductsRequest(page_size=LOOKED_AT, job_id=job_id), metadata=proof)
        categories = stub.ListCategories(products_pb2.ListCategoriesRequest(), metadata=proof).categories
    charges = {category.name: category.charge for category in categories}
    chosen = _choose(page.products)
    given = dict(prices(file, [product.row_no for product in chosen]))
    out.print("  Five of them, as the products service answers them")
    shown = table(
        *(("row", "right"), ("name", "left"), ("category", "left")),
        *(("price in", "right"), ("charge", "right"), ("price stored", "right")),
    )
    for product in chosen:
        charge = charges.get(product.category)
        shown.add_row(
            "",
            f"{product.row_no:,}",
            Text(cut(product.name, min(48, max(16, out.width - 68)))),
            Text(cut(product.category or NOTHING, 20)),
            given.get(product.row_no, NOTHING),
            f"+ {charge}" if charge else NOTHING,
            f"[bold]{product.price}[/]",
        )
    out.print(shown)


def _choose(products: Iterable[Any]) -> list[Any]:
    """The first of each category, then more until there are enough; in the order of the file."""
    ordered = sorted(products, key=lambda product: int(product.row_no))
    first = list({product.category: product for product in reversed(ordered)}.values())
    rest = [product for product in ordered if product not in first]
    return sorted(
        (sorted(first, key=lambda product: int(product.row_no)) + rest)[:SHOWN], key=lambda product: int(product.row_no)
    )


def prices(file: Path, rows: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Row number and price, as the file has it, of those rows; nothing for a file that is neither CSV nor NDJSON."""
    wanted = set(rows)
    for number, record in enumerate(_records(file), 1):
        if number in wanted:
            try:
                yield number, f"{Decimal(str(record.get('price'))):.2f}"
            except InvalidOperation:
                return
            wanted.discard(number)
        if not wanted:
            return


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """Records in order, blank lines left out; as lenient as a reader for show may be."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        if file.suffix == ".csv":
            lines = csv.reader(text)
            names = [name.strip().lower() for name in next(lines, [])]
            yield from (dict(zip(names, fields, strict=False)) for fields in lines if fields)
        elif file.suffix in (".ndjson", ".jsonl"):
            yield from (json.loads(line, parse_float=Decimal) for line in text if line.strip())
        elif file.suffix == ".json" and file.stat().st_size < 64 << 20:
            records = json.load(text, parse_float=Decimal)
            yield from records if isinstance(records, list) else [records]
