"""The gRPC door of auth, and Identity, through which other rooms use it."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import jwt
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from api import identity
from api.grpc_server import MAX_METADATA_BYTES
from api.identity import Identity
from jobber.errors import Unauthenticated, Unavailable
from jobber.local.ports import free_port
from protos.client import OPTIONS
from protos.jobber.auth.v1 import auth_pb2
from protos.jobber.auth.v1.auth_pb2_grpc import AuthServiceStub
from tests.support.auth import ADMIN, BEARER, SECRET, AuthProcess, auth_process

SERVICE = "jobber.auth.v1.AuthService"


@pytest.fixture(scope="module")
def dsn(clone: Callable[[str], str]) -> str:
    return clone("template1")


@pytest.fixture(scope="module")
def auth(dsn: str) -> Iterator[AuthProcess]:
    with auth_process(dsn) as service:
        yield service.ready()


@pytest.fixture
def channel(auth: AuthProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(auth.grpc, options=list(OPTIONS)) as channel:
        yield channel


@pytest.fixture
async def who(auth: AuthProcess) -> AsyncIterator[Identity]:
    made = Identity(auth.grpc, SECRET)
    yield made
    await made.close()


def test_authenticate(auth: AuthProcess, channel: grpc.Channel) -> None:
    stub = AuthServiceStub(channel)
    token = auth.login()
    answer = stub.Authenticate(auth_pb2.AuthenticateRequest(token=token), metadata=(("authorization", BEARER),), timeout=5)
    assert answer.user.email == ADMIN
    assert answer.user.role == auth_pb2.ROLE_ADMIN
    claims = jwt.decode(token, options={"verify_signature": False})
    assert answer.expires_at.seconds == claims["exp"]
    assert 0 < claims["exp"] - claims["iat"] - answer.good_for.ToTimedelta().total_seconds() < 60
    with pytest.raises(grpc.RpcError) as caught:
        stub.Authenticate(auth_pb2.AuthenticateRequest(token=token[:-2]), metadata=(("authorization", BEARER),), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_get_users(auth: AuthProcess, channel: grpc.Channel) -> None:
    stub, metadata = AuthServiceStub(channel), (("authorization", BEARER),)
    me = auth.post("{ me { id } }", auth.login()).json()["data"]["me"]["id"]
    ids = [me, str(uuid.uuid4()), "garbage", "a\x00b", ""]
    answer = stub.GetUsers(auth_pb2.GetUsersRequest(ids=ids), metadata=metadata, timeout=5)
    assert [(user.id, user.email) for user in answer.users] == [(me, ADMIN)]
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetUsers(auth_pb2.GetUsersRequest(ids=["x"] * 1001), metadata=metadata, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer wrong"),),
        (("authorization", BEARER.removeprefix("Bearer ")),),
        (("authorization", BEARER.replace("Bearer", "Basic")),),
        (("authorization", "Bearer wrong"), ("authorization", BEARER)),
        (("authorization", BEARER), ("authorization", "Bearer wrong")),
        (("authorization", BEARER + "x"),),
    ],
)
def test_service_credential(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        AuthServiceStub(channel).Authenticate(auth_pb2.AuthenticateRequest(token="x"), metadata=metadata, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "credential" in (caught.value.details() or "")


def test_token_of_a_person_is_no_credential(auth: AuthProcess, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        AuthServiceStub(channel).Authenticate(
            auth_pb2.AuthenticateRequest(token="x"), metadata=(("authorization", f"Bearer {auth.login()}"),), timeout=5
        )
    assert "credential" in (caught.value.details() or "")


def test_too_much_metadata(channel: grpc.Channel) -> None:
    metadata = (("authorization", BEARER), ("more", "x" * (3 * MAX_METADATA_BYTES)))
    with pytest.raises(grpc.RpcError) as caught:
        AuthServiceStub(channel).Authenticate(auth_pb2.AuthenticateRequest(token="x"), metadata=metadata, timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_and_reflection_need_no_credential(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status == 1
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=5))
    assert SERVICE in [service.name for service in answer.list_services_response.service]


def test_production_shows_less(clone: Callable[[str], str]) -> None:
    with auth_process(clone("template1"), JOBBER_MODE="production") as service:
        service.ready()
        with grpc.insecure_channel(service.grpc) as channel:
            assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            with pytest.raises(grpc.RpcError) as caught:
                next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=5))
            assert caught.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
        assert "errors" in service.post("{ __schema { queryType { name } } }").json()
        assert "Did you mean" not in service.post("{ user }").text


async def test_identity(auth: AuthProcess, who: Identity) -> None:
    token = auth.login()
    caller = await who.caller(token)
    assert (caller.email, caller.role) == (ADMIN, "ADMIN")
    auth.post("mutation { logout }", token)
    with pytest.raises(Unauthenticated):
        await who.caller(token)
    with pytest.raises(Unauthenticated):
        await who.caller("garbage")


async def test_identity_lives_through_an_outage_of_auth(clone: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "DEADLINE", 0.5)
    dsn, port = clone("template1"), free_port()
    with auth_process(dsn, JOBBER_GRPC_PORT=str(port)) as service:
        service.ready()
        good, unseen, out = service.login(), service.login(), service.login()
        who = Identity(service.grpc, SECRET)
        try:
            for token in (good, out):
                await who.caller(token)
            service.post("mutation { logout }", out)
            with pytest.raises(Unauthenticated):
                await who.caller(out)
            # Stopped, it misses deadlines; the first costs DEADLINE, later ones little.
            os.kill(service.process.pid, signal.SIGSTOP)
            await who.caller(good)
            monkeypatch.setattr(identity, "DEADLINE", 60)
            assert (await asyncio.wait_for(who.caller(good), 30)).email == ADMIN
            os.kill(service.process.pid, signal.SIGKILL)
            service.process.wait(10)
            assert (await who.caller(good)).email == ADMIN
            with pytest.raises(Unavailable):
                await who.caller(unseen)
            with pytest.raises(Unavailable):  # What auth refused is not remembered as good.
                await who.caller(out)
            # An expired one is not good any more, whoever is away; when that is nobody's wall clock says.
            known, _ = next(iter(who._known.values()))
            claims = jwt.decode(good, options={"verify_signature": False})
            assert known.good_until == pytest.approx(time.monotonic() + claims["exp"] - claims["iat"], abs=60)
            monkeypatch.setattr(identity, "time", SimpleNamespace(monotonic=lambda: known.good_until))
            with pytest.raises(Unavailable):
                await who.caller(good)
            monkeypatch.undo()
            with auth_process(dsn, JOBBER_GRPC_PORT=str(port)) as again:
                again.ready()
                deadline = time.monotonic() + 10
                while True:
                    try:
                        assert (await who.caller(unseen)).email == ADMIN
                        break
                    except Unavailable:
                        assert time.monotonic() < deadline
        finally:
            await who.close()


async def test_identity_remembers_a_bounded_number(auth: AuthProcess, who: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_KNOWN", 2)
    for token in [auth.login() for _ in range(3)]:
        await who.caller(token)
    assert len(who._known) == 2


async def test_unknown_method(auth: AuthProcess) -> None:
    async with aio.insecure_channel(auth.grpc) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Nonsense")
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"", metadata=(("authorization", BEARER),), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
