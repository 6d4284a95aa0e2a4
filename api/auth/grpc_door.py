"""The gRPC door of auth, for other services. What it raises becomes a status in api.grpc_server."""

from typing import TypeAlias

from grpc import aio

from api.auth.model import User
from api.auth.service import Auth
from jobber.errors import InvalidData
from protos.jobber.auth.v1 import auth_pb2
from protos.jobber.auth.v1.auth_pb2_grpc import AuthServiceServicer

SERVICE = "jobber.auth.v1.AuthService"
#: Users asked for at once.
MAX_IDS = 1000

Context: TypeAlias = "aio.ServicerContext[object, object]"


class AuthDoor(AuthServiceServicer):
    """Says whose a token is, and who is behind an id; opens and ends sessions for the console."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    async def Authenticate(self, request: auth_pb2.AuthenticateRequest, context: Context) -> auth_pb2.AuthenticateResponse:
        """Whose token it is."""
        session = await self._auth.authenticate(request.token)
        answer = auth_pb2.AuthenticateResponse(user=_wire(session.user))
        if session.expires_at is not None and session.good_for is not None:
            answer.expires_at.FromDatetime(session.expires_at)
            answer.good_for.FromTimedelta(session.good_for)
        if session.scopes is not None:
            answer.api_token.CopyFrom(auth_pb2.ApiToken(id=session.id, scopes=sorted(session.scopes)))
        return answer

    async def GetUsers(self, request: auth_pb2.GetUsersRequest, context: Context) -> auth_pb2.GetUsersResponse:
        """E-mail and role of users."""
        if len(request.ids) > MAX_IDS:
            raise InvalidData(f"At most {MAX_IDS} ids at once.")
        users = await self._auth.users_by_id(request.ids)
        return auth_pb2.GetUsersResponse(users=[_wire(user) for user in users])

    async def Login(self, request: auth_pb2.LoginRequest, context: Context) -> auth_pb2.LoginResponse:
        """As the mutation does, with the same limits."""
        login = await self._auth.login(request.email, request.password, request.address)
        answer = auth_pb2.LoginResponse(token=login.token)
        answer.expires_at.FromDatetime(login.expires_at)
        return answer

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Context) -> auth_pb2.LogoutResponse:
        """As the mutation does."""
        await self._auth.logout(await self._auth.authenticate(request.token))
        return auth_pb2.LogoutResponse()


def _wire(user: User) -> auth_pb2.User:
    return auth_pb2.User(id=user.id, email=user.email, role=f"ROLE_{user.role.value}")
