"""What the jobs service asks of the products service."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from api.jobs.wire import receipt_from
from jobber.credentials import Tls, service_token
from jobber.errors import Unavailable
from jobber.model import BatchKey, Receipt, WriteMode, Writing
from protos import client
from protos.jobber.products.v1 import products_pb2 as pb
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceStub

if TYPE_CHECKING:  # The stubs' alone: at run time there is no such name.
    from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceAsyncStub

#: Seconds; a dispatch round waits so long for charges while it holds the dispatch lock.
CHARGES_DEADLINE = 2.0
#: Seconds; closing waits for the loads of the job that are in their transaction.
CLOSE_DEADLINE = 30.0
#: Seconds; a publication writes a whole job.
PUBLISH_DEADLINE = 3600.0
MODES = {
    WriteMode.INSERT: pb.WRITE_MODE_INSERT,
    WriteMode.UPSERT: pb.WRITE_MODE_UPSERT,
    WriteMode.UPDATE: pb.WRITE_MODE_UPDATE,
}


class ProductsClient:
    """One channel to products, for charges and for closing jobs."""

    def __init__(self, addresses: str, jwt_secret: str, tls: Tls | None = None) -> None:
        self._channel = client.aio_channel(addresses, tls)
        self._stub: ProductsServiceAsyncStub = ProductsServiceStub(self._channel)
        self._metadata = client.credential(service_token(jwt_secret))

    async def charges(self) -> Mapping[str, str]:
        """Charge by category, as decimal text. Raises Unavailable."""
        try:
            answer = await self._stub.ListCategories(
                pb.ListCategoriesRequest(), timeout=CHARGES_DEADLINE, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as fault:
            raise Unavailable(f"The products service does not tell its charges: {fault.code().name}") from fault
        return {category.name: category.charge for category in answer.categories}

    async def close_job(self, job_id: str) -> Sequence[Receipt]:
        """Close the job for good; every receipt of it. Raises Unavailable."""
        receipts: list[Receipt] = []
        try:
            call = self._stub.CloseJob(pb.CloseJobRequest(job_id=job_id), timeout=CLOSE_DEADLINE, metadata=self._metadata)
            async for page in call:
                receipts.extend(receipt_from(receipt) for receipt in page.receipts)
        except grpc.aio.AioRpcError as fault:
            raise Unavailable(f"The products service does not close job {job_id}: {fault.code().name}") from fault
        return receipts

    async def publish_job(
        self, job_id: str, writing: Writing, columns: Sequence[str], allowed: int | None
    ) -> Sequence[Receipt] | str:
        """Make the job's staged rows visible; every receipt of it, or why the database refuses them. Raises Unavailable."""
        request = pb.PublishJobRequest(
            job_id=job_id,
            mode=MODES[writing.mode],
            keys=writing.keys,
            columns=columns,
            allowed=allowed,
            dry_run=writing.dry_run,
        )
        receipts: list[Receipt] = []
        try:
            async for page in self._stub.PublishJob(request, timeout=PUBLISH_DEADLINE, metadata=self._metadata):
                if page.HasField("refused"):
                    return page.refused
                receipts.extend(receipt_from(receipt) for receipt in page.receipts)
        except grpc.aio.AioRpcError as fault:
            raise Unavailable(f"The products service does not publish job {job_id}: {fault.code().name}") from fault
        return receipts

    async def forget_jobs(self, job_ids: Sequence[str]) -> None:
        """Empty what the ledger keeps of the jobs' rejects. Raises Unavailable."""
        try:
            await self._stub.ForgetJobs(pb.ForgetJobsRequest(job_ids=job_ids), timeout=CLOSE_DEADLINE, metadata=self._metadata)
        except grpc.aio.AioRpcError as fault:
            raise Unavailable(f"The products service does not forget jobs: {fault.code().name}") from fault

    async def origin(self, product_id: int) -> BatchKey | None:
        """The batch that the product came from; None for one made by hand, or that there is none. Raises Unavailable."""
        try:
            answer = await self._stub.GetProduct(
                pb.GetProductRequest(id=product_id), timeout=CHARGES_DEADLINE, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as fault:
            if fault.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise Unavailable(f"The products service does not tell of its products: {fault.code().name}") from fault
        product = answer.product
        return BatchKey(product.job_id, product.batch_no) if product.HasField("job_id") else None

    async def ready(self) -> bool:
        """Whether the channel is connected."""
        return self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
