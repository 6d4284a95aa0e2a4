"""The gRPC door (protos/jobber/products/v1). Translates; what happens is in store.py, load.py and ledger.py."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import grpc.aio

from api.products import wire
from api.products.ids import Ids
from api.products.incoming import receive
from api.products.ledger import Ledger
from api.products.load import Budget, Loader
from api.products.model import DataRefused, Overloaded, Stalled
from api.products.publish import Publisher
from api.products.small import unpack
from api.products.store import Store
from protos.jobber.products.v1 import products_pb2 as pb
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceServicer, add_ProductsServiceServicer_to_server

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"

#: Jobs that are closed at once. More wait here: each holds a connection for as long as the job's loads take.
CLOSING = 2


def add_to_server(door: "ProductsDoor", server: grpc.aio.Server) -> None:
    """Serve it; what Load is sent comes as bytes."""
    add_ProductsServiceServicer_to_server(door, server)
    load: grpc.RpcMethodHandler[bytes, pb.LoadResponse] = grpc.stream_unary_rpc_method_handler(
        door.Load, response_serializer=pb.LoadResponse.SerializeToString
    )
    server.add_registered_method_handlers(pb.DESCRIPTOR.services_by_name["ProductsService"].full_name, {"Load": load})


class ProductsDoor(ProductsServiceServicer):
    """Behind the service credential, all of it (api/grpc_server.py)."""

    def __init__(self, store: Store, ledger: Ledger, loader: Loader, ids: Ids, budget: Budget) -> None:
        self._store = store
        self._ledger = ledger
        self._loader = loader
        self._ids = ids
        self._budget = budget
        self._publisher = Publisher(ledger)
        self._closing = asyncio.Semaphore(CLOSING)

    async def Load(self, requests: AsyncIterator[bytes | pb.LoadRequest], context: Context) -> pb.LoadResponse:
        """Write a group of batches. Nothing happens in the database before all of it is here."""
        try:
            with self._budget.share() as share:
                batches = await receive(requests, self._ids, share)
                outcomes = await self._loader.load(batches)
        except Overloaded as fault:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, fault.message)
        except Stalled as fault:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, fault.message)
        return pb.LoadResponse(outcomes=map(wire.outcome_to, outcomes))

    async def LoadSmall(self, request: pb.LoadSmallRequest, context: Context) -> pb.LoadSmallResponse:
        """The same for many small batches."""
        try:
            with self._budget.share() as share:
                outcomes = await self._loader.load(await unpack(request.batches, self._ids, share))
        except Overloaded as fault:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, fault.message)
        return pb.LoadSmallResponse(outcomes=map(wire.outcome_to, outcomes))

    async def CloseJob(self, request: pb.CloseJobRequest, context: Context) -> AsyncIterator[pb.CloseJobResponse]:
        """Close the job for good, then tell all its receipts."""
        job_id = wire.job_id_from(request.job_id)
        async with self._closing:
            closed_at = wire.time_to(await self._ledger.close(job_id))
        told = False
        async for page in self._ledger.receipts(job_id):
            yield pb.CloseJobResponse(receipts=map(wire.receipt_to, page), closed_at=closed_at)
            told = True
        if not told:
            yield pb.CloseJobResponse(closed_at=closed_at)

    async def PublishJob(self, request: pb.PublishJobRequest, context: Context) -> AsyncIterator[pb.PublishJobResponse]:
        """Make the job's staged rows visible, then tell all its receipts."""
        asked = wire.publication_from(request)
        try:
            await self._publisher.publish(asked)
        except DataRefused as fault:
            yield pb.PublishJobResponse(refused=f"The database refused the job's rows: {fault}.")
            return
        async for page in self._ledger.receipts(asked.job_id):
            yield pb.PublishJobResponse(receipts=map(wire.receipt_to, page))

    async def ForgetJobs(self, request: pb.ForgetJobsRequest, context: Context) -> pb.ForgetJobsResponse:
        """Empty the rejects of jobs that have ended."""
        await self._ledger.forget(wire.job_ids_from(request.job_ids))
        return pb.ForgetJobsResponse()

    async def CreateProduct(self, request: pb.CreateProductRequest, context: Context) -> pb.CreateProductResponse:
        """Store a product made by hand."""
        product = await self._store.create_product(wire.product_from(request.product))
        return pb.CreateProductResponse(product=wire.product_to(product))

    async def GetProduct(self, request: pb.GetProductRequest, context: Context) -> pb.GetProductResponse:
        """One product."""
        product = await self._store.product(wire.id_from(request.id))
        return pb.GetProductResponse(product=wire.product_to(product))

    async def UpdateProduct(self, request: pb.UpdateProductRequest, context: Context) -> pb.UpdateProductResponse:
        """Replace a product."""
        wire.id_from(request.product.id)
        product = await self._store.update_product(wire.product_from(request.product))
        return pb.UpdateProductResponse(product=wire.product_to(product))

    async def DeleteProduct(self, request: pb.DeleteProductRequest, context: Context) -> pb.DeleteProductResponse:
        """Delete a product."""
        await self._store.delete_product(wire.id_from(request.id))
        return pb.DeleteProductResponse()

    async def ListProducts(self, request: pb.ListProductsRequest, context: Context) -> pb.ListProductsResponse:
        """One page of products."""
        wanted, limit = wire.filter_from(request), wire.page_size_from(request.page_size)
        page, more = await self._store.products(wanted, after=wire.token_from(request.page_token, wanted), limit=limit)
        token = wire.token_to(page[-1].id, wanted) if more else ""
        return pb.ListProductsResponse(products=map(wire.product_to, page), next_page_token=token)

    async def CreateCategory(self, request: pb.CreateCategoryRequest, context: Context) -> pb.CreateCategoryResponse:
        """Store a new category."""
        category = await self._store.create_category(wire.category_from(request.category))
        return pb.CreateCategoryResponse(category=wire.category_to(category))

    async def GetCategory(self, request: pb.GetCategoryRequest, context: Context) -> pb.GetCategoryResponse:
        """One category."""
        category = await self._store.category(wire.name_from(request.name))
        return pb.GetCategoryResponse(category=wire.category_to(category))

    async def UpdateCategory(self, request: pb.UpdateCategoryRequest, context: Context) -> pb.UpdateCategoryResponse:
        """Set a category's charge."""
        category = await self._store.update_category(wire.category_from(request.category))
        return pb.UpdateCategoryResponse(category=wire.category_to(category))

    async def DeleteCategory(self, request: pb.DeleteCategoryRequest, context: Context) -> pb.DeleteCategoryResponse:
        """Delete a category; products keep its name."""
        await self._store.delete_category(wire.name_from(request.name))
        return pb.DeleteCategoryResponse()

    async def ListCategories(self, request: pb.ListCategoriesRequest, context: Context) -> pb.ListCategoriesResponse:
        """All categories."""
        return pb.ListCategoriesResponse(categories=map(wire.category_to, await self._store.categories()))
