"""Products and categories one by one, and the lists of them."""

from typing import Any

import grpc
import pytest

from api.products import store
from api.products.wire import MAX_ID, MAX_PAGE_SIZE
from jobber.ids import uuid7
from protos.jobber.products.v1 import products_pb2 as pb
from tests.support.products import Products, Sent, frame

OK = None
INVALID, MISSING, EXISTS = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS


async def refusal(products: Products, method: str, request: Any) -> tuple[grpc.StatusCode | None, str]:
    """The status and its message; None when it was done."""
    try:
        await products.call(method, request)
    except grpc.aio.AioRpcError as fault:
        return fault.code(), fault.details() or ""
    return None, ""


async def create(products: Products, **fields: Any) -> pb.Product:
    made: pb.Product = (await products.call("CreateProduct", pb.CreateProductRequest(product=pb.Product(**fields)))).product
    return made


async def pages(products: Products, **wanted: Any) -> list[list[pb.Product]]:
    found: list[list[pb.Product]] = []
    token = ""
    while True:
        page = await products.call("ListProducts", pb.ListProductsRequest(page_token=token, **wanted))
        found.append(list(page.products))
        token = page.next_page_token
        if not token:
            return found


async def test_a_product_is_made_read_changed_and_deleted(products: Products) -> None:
    full: dict[str, Any] = {
        "name": "Atlas",
        "category": "Books",
        "price": "12.5",
        "stock": 0,
        "rating": "4",
        "description": "of the world",
    }
    made = await create(products, **full, id=99, job_id=uuid7(), batch_no=1, row_no=2)
    assert made == pb.Product(**(full | {"id": made.id, "price": "12.50", "rating": "4.00"}))
    assert (await products.call("GetProduct", pb.GetProductRequest(id=made.id))).product == made
    changed = pb.Product(id=made.id, name="Atlas, second edition", price="0")
    answer = await products.call("UpdateProduct", pb.UpdateProductRequest(product=changed))
    assert answer.product == pb.Product(id=made.id, name="Atlas, second edition", price="0.00")
    await products.call("DeleteProduct", pb.DeleteProductRequest(id=made.id))
    for method, request in (
        ("GetProduct", pb.GetProductRequest(id=made.id)),
        ("UpdateProduct", pb.UpdateProductRequest(product=changed)),
        ("DeleteProduct", pb.DeleteProductRequest(id=made.id)),
    ):
        code, message = await refusal(products, method, request)
        assert (code, str(made.id) in message) == (MISSING, True), method


async def test_a_change_keeps_the_lineage(products: Products) -> None:
    sent = Sent.of(frame(1), batch_no=3)
    await products.load(sent)
    ((loaded,),) = await pages(products)
    changed = pb.Product(id=loaded.id, name="new", price="1", job_id=uuid7(), batch_no=9, row_no=9)
    answer = await products.call("UpdateProduct", pb.UpdateProductRequest(product=changed))
    assert (answer.product.job_id, answer.product.batch_no, answer.product.row_no) == (sent.job_id, 3, 1)


PRODUCTS: list[tuple[dict[str, Any], grpc.StatusCode | None]] = [
    ({}, OK),
    ({"price": "0"}, OK),
    ({"price": "0.1"}, OK),
    ({"price": "007.50"}, OK),
    ({"price": "9999999999.99"}, OK),
    ({"price": "10000000000"}, INVALID),
    ({"price": "1" * 5000}, INVALID),
    ({"price": ""}, INVALID),
    ({"price": "-0.01"}, INVALID),
    ({"price": "-0"}, INVALID),
    ({"price": "+1"}, INVALID),
    ({"price": "1.001"}, INVALID),
    ({"price": "1.000"}, INVALID),
    ({"price": "1."}, INVALID),
    ({"price": ".5"}, INVALID),
    ({"price": "1e3"}, INVALID),
    ({"price": "1_000"}, INVALID),
    ({"price": "1,000.00"}, INVALID),
    ({"price": " 1"}, INVALID),
    ({"price": "1\n"}, INVALID),
    ({"price": "0x10"}, INVALID),
    ({"price": "\uff11\uff12"}, INVALID),
    ({"price": "$5"}, INVALID),
    ({"price": "NaN"}, INVALID),
    ({"price": "sNaN"}, INVALID),
    ({"price": "Infinity"}, INVALID),
    ({"rating": "5.00"}, OK),
    ({"rating": "5.01"}, INVALID),
    ({"rating": ""}, INVALID),
    ({"rating": "-1"}, INVALID),
    ({"stock": 2**31 - 1}, OK),
    ({"stock": -1}, INVALID),
    ({"name": ""}, INVALID),
    ({"name": " \t"}, INVALID),
    ({"name": "a\0b"}, INVALID),
    ({"name": "'; DROP TABLE products.products; --"}, OK),
    ({"category": ""}, OK),
    ({"category": "a\0"}, INVALID),
    ({"description": "\0"}, INVALID),
    ({"description": "👩‍👩‍👧 " * 1000}, OK),
]


async def test_what_a_product_may_be(products: Products) -> None:
    kept = await create(products, name="kept", price="1")
    for fields, wanted in PRODUCTS:
        product = {"name": "x", "price": "1.00"} | fields
        code, message = await refusal(products, "CreateProduct", pb.CreateProductRequest(product=pb.Product(**product)))
        assert code is wanted, fields
        assert len(message) < 300
        code, _ = await refusal(products, "UpdateProduct", pb.UpdateProductRequest(product=pb.Product(**product, id=kept.id)))
        assert code is wanted, fields
    made = sum(wanted is OK for _, wanted in PRODUCTS)
    assert products.sql("SELECT count(*) FROM products.products") == [(made + 1,)]


@pytest.mark.parametrize(
    ("number", "wanted"), [(0, INVALID), (-1, INVALID), (-(2**63), INVALID), (1, MISSING), (MAX_ID, MISSING)]
)
async def test_ids(products: Products, number: int, wanted: grpc.StatusCode) -> None:
    assert (await refusal(products, "GetProduct", pb.GetProductRequest(id=number)))[0] is wanted
    assert (await refusal(products, "DeleteProduct", pb.DeleteProductRequest(id=number)))[0] is wanted
    product = pb.Product(id=number, name="x", price="1")
    assert (await refusal(products, "UpdateProduct", pb.UpdateProductRequest(product=product)))[0] is wanted


async def test_lists_of_products(products: Products) -> None:
    jobs = [uuid7(), uuid7()]
    by_hand = [await create(products, name=f"hand {n}", price="1", category="Toys" if n % 2 else "Books") for n in range(5)]
    for number in range(4):
        await products.load(Sent.of(frame(30, 1 + 30 * number), jobs[number % 2], number), Sent(uuid7()))
    after = await create(products, name="last", price="1")

    def listed(found: list[list[pb.Product]]) -> list[pb.Product]:
        products_ = [product for page in found for product in page]
        assert [product.id for product in products_] == sorted({product.id for product in products_})
        return products_

    everything = listed(await pages(products, page_size=7))
    assert len(everything) == 126
    assert [product for product in everything if not product.job_id] == [*by_hand, after]
    assert listed(await pages(products)) == listed(await pages(products, page_size=1000)) == everything
    assert [len(page) for page in await pages(products)] == [50, 50, 26]
    for job in jobs:
        of_job = [product for product in everything if product.job_id == job]
        assert len(of_job) == 60
        for size in (1, 7, 30, 59, 60, 61, 1000):
            found = await pages(products, page_size=size, job_id=job)
            assert listed(found) == of_job
            assert len(found) == -(-60 // size)
        toys = [product for product in of_job if product.category == "Toys"]
        assert listed(await pages(products, page_size=3, job_id=job, category="Toys")) == toys
    assert listed(await pages(products, category="Books", page_size=9)) == [p for p in everything if p.category == "Books"]
    assert await pages(products, category="books") == [[]]
    assert await pages(products, job_id=uuid7()) == [[]]
    # What was deleted from the midst of a job leaves no hole that ends a page.
    products.sql("DELETE FROM products.products WHERE job_id = %s AND row_no BETWEEN 5 AND 25", jobs[0])
    assert len(listed(await pages(products, page_size=10, job_id=jobs[0]))) == 39


async def test_a_page_of_long_texts_is_cut_and_none_is_lost(products: Products, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAGE_BYTES", 2500)
    sizes = [1000, 1000, 1000, 3000, 10, 2600, 2600, 1]
    sent = Sent.of(frame(8, description=["d" * size for size in sizes], name=["n"] * 8, category=[None] * 8))
    await products.load(sent)
    for wanted in ({}, {"job_id": sent.job_id}):
        found = await pages(products, page_size=8, **wanted)
        assert [[len(product.description) for product in page] for page in found] == [
            [1000, 1000],
            [1000],
            [3000],
            [10],
            [2600],
            [2600],
            [1],
        ]


async def test_page_sizes_and_tokens_are_checked(products: Products) -> None:
    job = uuid7()
    await products.load(Sent.of(frame(5), job))
    page = await products.call("ListProducts", pb.ListProductsRequest(page_size=2, job_id=job))
    token = page.next_page_token
    flipped = ("A" if token[0] != "A" else "B") + token[1:]
    cases: list[tuple[dict[str, Any], grpc.StatusCode | None]] = [
        ({"page_size": MAX_PAGE_SIZE}, OK),
        ({"page_size": MAX_PAGE_SIZE + 1}, INVALID),
        ({"page_size": 2**31 - 1}, INVALID),
        ({"page_size": -1}, INVALID),
        ({"page_token": token, "job_id": job}, OK),
        ({"page_token": token, "job_id": job, "page_size": 1}, OK),
        ({"page_token": token}, INVALID),
        ({"page_token": token, "job_id": uuid7()}, INVALID),
        ({"page_token": token, "job_id": job, "category": "Toys"}, INVALID),
        ({"page_token": flipped, "job_id": job}, INVALID),
        ({"page_token": token[:-1], "job_id": job}, INVALID),
        ({"page_token": token * 2, "job_id": job}, INVALID),
        ({"page_token": "1", "job_id": job}, INVALID),
        ({"page_token": "'; --", "job_id": job}, INVALID),
        ({"page_token": "é\0", "job_id": job}, INVALID),
        ({"job_id": ""}, INVALID),
        ({"job_id": "no uuid"}, INVALID),
        ({"job_id": job.upper()}, INVALID),
        ({"category": "\0"}, INVALID),
    ]
    for fields, wanted in cases:
        assert (await refusal(products, "ListProducts", pb.ListProductsRequest(**fields)))[0] is wanted, fields
    for name in ("", "no uuid", job.upper()):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await products.close_job(name)
        assert failed.value.code() is INVALID


async def test_categories(products: Products) -> None:
    seeded = (await products.call("ListCategories", pb.ListCategoriesRequest())).categories
    names = [category.name for category in seeded]
    assert len(names) >= 12
    assert {"Books", "Electronics", "Garden"} <= set(names)
    assert names == sorted(names)
    maps = pb.Category(name="Maps & Globes", charge="1.5")
    made = await products.call("CreateCategory", pb.CreateCategoryRequest(category=maps))
    assert made.category == pb.Category(name="Maps & Globes", charge="1.50")
    assert (await products.call("GetCategory", pb.GetCategoryRequest(name=maps.name))).category == made.category
    assert (await refusal(products, "CreateCategory", pb.CreateCategoryRequest(category=maps)))[0] is EXISTS
    maps.charge = "0"
    changed = await products.call("UpdateCategory", pb.UpdateCategoryRequest(category=maps))
    assert changed.category.charge == "0.00"
    assert len((await products.call("ListCategories", pb.ListCategoriesRequest())).categories) == len(names) + 1
    await products.call("DeleteCategory", pb.DeleteCategoryRequest(name=maps.name))
    for method, request in (
        ("GetCategory", pb.GetCategoryRequest(name=maps.name)),
        ("UpdateCategory", pb.UpdateCategoryRequest(category=maps)),
        ("DeleteCategory", pb.DeleteCategoryRequest(name=maps.name)),
        ("GetCategory", pb.GetCategoryRequest(name="books")),
    ):
        assert (await refusal(products, method, request))[0] is MISSING, method


@pytest.mark.parametrize(
    ("name", "charge"),
    [
        ("", "1"),
        ("a\0", "1"),
        ("  ", "1"),
        ("x", ""),
        ("x", "-1"),
        ("x", "1.234"),
        ("x", "NaN"),
        ("x", "1e2"),
        ("x", "10000000000"),
    ],
)
async def test_what_a_category_may_not_be(products: Products, name: str, charge: str) -> None:
    category = pb.Category(name=name, charge=charge)
    assert (await refusal(products, "CreateCategory", pb.CreateCategoryRequest(category=category)))[0] is INVALID
    assert (await refusal(products, "UpdateCategory", pb.UpdateCategoryRequest(category=category)))[0] is INVALID
