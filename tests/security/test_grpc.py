"""gRPC between services: certificates by configuration, what is asked again, and what a refusal says."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from pydantic import ValidationError

from api.grpc_server import grpc_server
from api.identity import Identity
from jobber.credentials import Tls
from jobber.errors import NotFound, RateLimited, Unavailable
from jobber.settings import ServiceSettings
from protos import client
from protos.jobber.auth.v1 import auth_pb2
from protos.jobber.auth.v1.auth_pb2_grpc import AuthServiceServicer, AuthServiceStub, add_AuthServiceServicer_to_server
from tests.support.auth import ADMIN, BEARER, SECRET, AuthProcess, auth_process
from tests.support.certificates import Authority, tls_of

METADATA = (("authorization", BEARER),)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return Authority("ours").issue(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def encrypted(clone: Any, certificates: dict[str, str]) -> Iterator[AuthProcess]:
    with auth_process(clone("template1"), **certificates) as service:
        yield service.ready()


async def test_services_with_certificates_of_one_authority_talk(encrypted: AuthProcess, certificates: dict[str, str]) -> None:
    who = Identity(encrypted.grpc, SECRET, tls_of(certificates))
    try:
        assert (await who.caller(encrypted.login())).email == ADMIN
    finally:
        await who.close()


def test_others_do_not_get_as_far_as_the_credential(
    encrypted: AuthProcess, certificates: dict[str, str], tmp_path: Path
) -> None:
    ours, foreign = tls_of(certificates), tls_of(Authority("foreign").issue(tmp_path / "foreign"))
    without = grpc.secure_channel(encrypted.grpc, grpc.ssl_channel_credentials(ours.authority))
    channels = {
        "plain": client.channel(encrypted.grpc, None),
        "no certificate": without,
        "another authority's": client.channel(encrypted.grpc, replace(foreign, authority=ours.authority)),
        "takes another authority": client.channel(encrypted.grpc, replace(ours, authority=foreign.authority)),
    }
    codes = {}
    for name, channel in channels.items():
        with channel, pytest.raises(grpc.RpcError) as caught:
            AuthServiceStub(channel).Authenticate(auth_pb2.AuthenticateRequest(token="x"), metadata=METADATA, timeout=5)
        codes[name] = caught.value.code()
    assert codes == dict.fromkeys(channels, grpc.StatusCode.UNAVAILABLE)


def test_a_certificate_is_no_credential(encrypted: AuthProcess, certificates: dict[str, str]) -> None:
    with client.channel(encrypted.grpc, tls_of(certificates)) as channel, pytest.raises(grpc.RpcError) as caught:
        AuthServiceStub(channel).Authenticate(auth_pb2.AuthenticateRequest(token="x"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_certificates_are_configured_whole(certificates: dict[str, str], tmp_path: Path) -> None:
    given = {name.removeprefix("JOBBER_").lower(): path for name, path in certificates.items()}
    assert isinstance(ServiceSettings.model_validate({"jwt_secret": SECRET, **given}).tls, Tls)
    for left_out in given:
        some = {name: path for name, path in given.items() if name != left_out}
        with pytest.raises(ValidationError, match="all three"):
            ServiceSettings.model_validate({"jwt_secret": SECRET, **some})
    with auth_process(
        "postgresql://x@127.0.0.1:1/x", **(certificates | {"JOBBER_GRPC_KEY": str(tmp_path / "none")})
    ) as service:
        assert service.process.wait(20) == 1
        assert "cannot be read: No such file" in service.wait_for("failed")["message"]


class Flaky(AuthServiceServicer):
    """Fails as it is told to."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.calls: Counter[str] = Counter()

    async def Authenticate(self, request: Any, context: Any) -> Any:
        self.calls["Authenticate"] += 1
        if self.faults:
            raise self.faults.pop(0)
        return auth_pb2.AuthenticateResponse()

    async def GetUsers(self, request: Any, context: Any) -> Any:
        return auth_pb2.GetUsersResponse()

    async def Login(self, request: Any, context: Any) -> Any:
        return auth_pb2.LoginResponse()

    async def Logout(self, request: Any, context: Any) -> Any:
        return auth_pb2.LogoutResponse()


@pytest.fixture
async def flaky() -> AsyncIterator[tuple[Flaky, str]]:
    server, door = grpc_server(ServiceSettings(jwt_secret=SECRET)), Flaky()
    add_AuthServiceServicer_to_server(door, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield door, f"127.0.0.1:{port}"
    await server.stop(0)


async def ask(address: str) -> Any:
    async with client.aio_channel(address, None) as channel:
        stub: Any = AuthServiceStub(channel)
        return await stub.Authenticate(auth_pb2.AuthenticateRequest(), metadata=METADATA, timeout=5)


async def test_what_only_reads_is_asked_again(flaky: tuple[Flaky, str]) -> None:
    door, address = flaky
    door.faults = [Unavailable(), Unavailable()]
    await ask(address)
    assert door.calls["Authenticate"] == 3
    door.faults = [NotFound()]
    with pytest.raises(aio.AioRpcError):
        await ask(address)
    assert door.calls["Authenticate"] == 4  # Another answer would be the same.


def test_what_counts_or_writes_is_not_asked_again() -> None:
    from protos.jobber.jobs.v1 import jobs_pb2
    from protos.jobber.products.v1 import products_pb2

    services = [
        service for module in (auth_pb2, jobs_pb2, products_pb2) for service in module.DESCRIPTOR.services_by_name.values()
    ]
    reads = {(service, method) for service, methods in client.READS.items() for method in methods}
    named = {(service.full_name, method.name) for service in services for method in service.methods}
    assert reads <= named
    assert {method for _, method in reads} == {
        method for _, method in named if method.startswith(("Get", "List")) or method == "Authenticate"
    }


async def test_a_refusal_says_why_in_a_form_for_programs(flaky: tuple[Flaky, str]) -> None:
    door, address = flaky

    async def details(fault: Exception) -> tuple[str, error_details_pb2.ErrorInfo, Any]:
        door.faults = [fault]
        with pytest.raises(aio.AioRpcError) as caught:
            await ask(address)
        call: Any = _Call(caught.value)
        status: Any = rpc_status.from_call(call)
        info, *more = status.details
        unpacked = error_details_pb2.ErrorInfo()
        assert info.Unpack(unpacked)
        return status.message, unpacked, more

    message, info, _ = await details(NotFound("There is no such thing."))
    assert (message, info.reason, info.domain) == ("There is no such thing.", "NOT_FOUND", "jobber")
    _, info, [more] = await details(RateLimited(retry_after=7))
    retry = error_details_pb2.RetryInfo()
    assert more.Unpack(retry)
    assert (info.reason, retry.retry_delay.seconds) == ("RATE_LIMITED", 7)
    message, info, _ = await details(RuntimeError("canary"))
    assert message == f"Internal error {info.metadata['error_id']}"
    assert "canary" not in str(info)


class _Call:
    """An error of grpc.aio as grpc_status wants it."""

    def __init__(self, fault: aio.AioRpcError) -> None:
        self._fault = fault

    def code(self) -> grpc.StatusCode:
        return self._fault.code()

    def details(self) -> str | None:
        return self._fault.details()

    def trailing_metadata(self) -> Any:
        return list(self._fault.trailing_metadata() or ())
