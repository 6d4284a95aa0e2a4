"""The GraphQL door of auth: login, users. Raised JobberErrors become errors with `extensions.code`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import graphene
from starlette.requests import HTTPConnection

from api.auth.api_tokens import ApiTokens
from api.auth.model import ApiToken, Login, Session, User
from api.auth.service import Auth
from api.graphql import types
from api.graphql.http_door import RESPONSE_HEADERS
from api.graphql.scalars import DateTime
from api.graphql.tokens import from_our_page, session_cookies, token_of
from api.scopes import SCOPES
from jobber.errors import Forbidden, JobberError, Unauthenticated


@dataclass(slots=True)
class Context:
    """One request's."""

    auth: Auth
    api_tokens: ApiTokens
    connection: HTTPConnection
    #: Where the request comes from (api.addresses).
    address: str
    _session: Session | None = field(default=None, init=False)

    async def session(self) -> Session:
        """The caller's session. Asked only by resolvers that need it: a stale token must not keep anybody from logging in.

        Raises Unauthenticated.
        """
        if self._session is None:
            token = token_of(self.connection)
            if token is None:
                raise Unauthenticated
            self._session = await self.auth.authenticate(token)
        return self._session

    def set_cookie(self, login: Login | None) -> None:
        """Let the browser keep the token where no script sees it; None takes it away."""
        token, end = (login.token, login.expires_at) if login else (None, None)
        values = session_cookies(self.connection, token, end)
        self.connection.scope.setdefault(RESPONSE_HEADERS, []).extend(("set-cookie", value) for value in values)


class LoginPayload(graphene.ObjectType):
    """A session; its token goes into `Authorization: Bearer …`."""

    token = graphene.String(required=True)
    expires_at = graphene.Field(DateTime, required=True)
    id = graphene.ID(required=True, description="The user's.")
    email = graphene.String(required=True)


class ApiTokenType(graphene.ObjectType):
    """What a program logs in with, without its secret."""

    class Meta:  # noqa: D106
        name = "ApiToken"
        interfaces = (types.Node,)

    name = graphene.String(required=True)
    scopes = graphene.List(graphene.NonNull(graphene.String), required=True, description="What it may do.")
    expires_at = graphene.Field(DateTime, description="Null: it has no end.")
    last_used_at = graphene.Field(DateTime, description="To the minute; null: never.")

    @staticmethod
    def of(token: ApiToken) -> "ApiTokenType":
        """As people see one."""
        return ApiTokenType(
            id=token.id,
            name=token.name,
            scopes=list(token.scopes),
            expires_at=token.expires_at,
            last_used_at=token.last_used_at,
        )


class TokenPayload(graphene.ObjectType):
    """A new API token, or why there is none."""

    token = graphene.String(description="The secret itself, shown only here: `Authorization: Bearer …`.")
    api_token = graphene.Field(ApiTokenType)
    user_errors = graphene.List(graphene.NonNull(types.UserError), required=True)


class LoginInput(graphene.InputObjectType):
    """Who wants to log in."""

    email = graphene.String(required=True)
    password = graphene.String(required=True)


class CreateUserInput(graphene.InputObjectType):
    """Who shall be able to log in."""

    email = graphene.String(required=True)
    password = graphene.String(required=True)


class Query(graphene.ObjectType):
    """What can be asked."""

    me = graphene.Field(types.User, description="The caller; null without a token.")
    users = graphene.List(graphene.NonNull(types.User), required=True, description="All users; for an ADMIN.")

    api_tokens = graphene.List(
        graphene.NonNull(ApiTokenType), required=True, description="The caller's API tokens that are not revoked."
    )
    audit_log = graphene.Field(
        types.AuditConnection,
        required=True,
        first=graphene.Int(default_value=50),
        after=graphene.String(),
        description="Who did what to users and tokens, newest first; for an ADMIN. For jobs and uploads ask the jobs service.",
    )
    node = graphene.Field(
        types.Node, id=graphene.ID(required=True), description="The caller's user or API token; for an ADMIN any user."
    )

    async def resolve_me(root: Any, info: graphene.ResolveInfo) -> types.User | None:
        """A token that is not good is an error, not nobody."""
        context: Context = info.context
        return _user((await context.session()).user) if token_of(context.connection) is not None else None

    async def resolve_users(root: Any, info: graphene.ResolveInfo) -> list[types.User]:
        """Oldest first."""
        context: Context = info.context
        return [_user(user) for user in await context.auth.users(await context.session())]

    async def resolve_api_tokens(root: Any, info: graphene.ResolveInfo) -> list[ApiTokenType]:
        """Oldest first."""
        context: Context = info.context
        return [ApiTokenType.of(token) for token in await context.api_tokens.of(await context.session())]

    async def resolve_audit_log(
        root: Any, info: graphene.ResolveInfo, first: int, after: str | None = None
    ) -> types.AuditConnection:
        """One more than asked for says whether there is a next page."""
        context: Context = info.context
        size, place = types.page_size(first), types.decode_cursor(after, 1)
        entries = await context.auth.audit(await context.session(), size + 1, place[0] if place else None)
        return types.AuditConnection.of(entries, size)

    async def resolve_node(root: Any, info: graphene.ResolveInfo, id: str) -> Any:
        """Null for what there is not, and for what is not the caller's."""
        context: Context = info.context
        session = await context.session()
        if session.scopes is None:
            for token in await context.api_tokens.of(session):
                if token.id == id:
                    return ApiTokenType.of(token)
        for user in await context.auth.visible(session, id):
            return _user(user)
        return None


class LoginMutation(graphene.Mutation):
    """Log in; the answer also sets the cookie `Authentication`."""

    class Meta:  # noqa: D106
        name = "Login"

    class Arguments:  # noqa: D106
        input = LoginInput()
        login_input = LoginInput()

    Output = graphene.NonNull(LoginPayload)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, input: Any = None, login_input: Any = None) -> LoginPayload:
        """Give exactly one of the two arguments, which mean the same."""
        context: Context = info.context
        if not from_our_page(context.connection):
            # A foreign page could log its visitor in as somebody else.
            raise Forbidden("Log in from a page of this service.")
        given = types.exactly_one(input, login_input, "input", "loginInput")
        login = await context.auth.login(given["email"], given["password"], context.address)
        context.set_cookie(login)
        return LoginPayload(token=login.token, expires_at=login.expires_at, id=login.user.id, email=login.user.email)


class CreateUser(graphene.Mutation):
    """Make a MEMBER; for an ADMIN."""

    class Arguments:  # noqa: D106
        input = CreateUserInput()
        create_user_input = CreateUserInput()

    Output = graphene.NonNull(types.User)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, input: Any = None, create_user_input: Any = None) -> types.User:
        """Give exactly one of the two arguments, which mean the same."""
        context: Context = info.context
        caller = await context.session()
        given = types.exactly_one(input, create_user_input, "input", "createUserInput")
        return _user(await context.auth.create_user(caller, given["email"], given["password"]))


class Logout(graphene.Mutation):
    """End the caller's session: its token is refused from now on."""

    Output = graphene.NonNull(graphene.Boolean)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo) -> bool:
        """True once it has ended."""
        context: Context = info.context
        await context.auth.logout(await context.session())
        context.set_cookie(None)
        return True


class PasswordChange(graphene.Mutation):
    """Change the caller's password; all their sessions end, and their API tokens are revoked."""

    class Arguments:  # noqa: D106
        current = graphene.String(required=True)
        new = graphene.String(required=True)

    Output = graphene.NonNull(graphene.Boolean)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, current: str, new: str) -> bool:
        """True once it is changed."""
        context: Context = info.context
        await context.auth.change_password(await context.session(), current, new, context.address)
        context.set_cookie(None)
        return True


class UserDisable(graphene.Mutation):
    """Let a user log in no more; all their sessions end, and their API tokens are revoked. For an ADMIN."""

    class Arguments:  # noqa: D106
        id = graphene.ID(required=True)

    Output = graphene.NonNull(types.User)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, id: str) -> types.User:
        """The user, disabled."""
        context: Context = info.context
        return _user(await context.auth.disable(await context.session(), id))


class ApiTokenCreate(graphene.Mutation):
    """Make an API token for a program; it never may more than its maker. Not with an API token."""

    class Arguments:  # noqa: D106
        name = graphene.String(required=True)
        scopes = graphene.List(
            graphene.NonNull(graphene.String),
            required=True,
            description="; ".join(f"`{scope}`: {what}" for scope, what in SCOPES.items()),
        )
        expires_at = DateTime(description="Null: it has no end.")

    Output = graphene.NonNull(TokenPayload)

    @staticmethod
    async def mutate(
        root: Any, info: graphene.ResolveInfo, name: str, scopes: list[str], expires_at: datetime | None = None
    ) -> TokenPayload:
        """The secret is in this answer and nowhere else."""
        context: Context = info.context
        session = await context.session()
        try:
            token, made = await context.api_tokens.create(session, name, scopes, expires_at)
        except JobberError as fault:
            return TokenPayload(user_errors=[types.user_error(fault)])
        return TokenPayload(token=token, api_token=ApiTokenType.of(made), user_errors=[])


class ApiTokenRevoke(graphene.Mutation):
    """End one of the caller's API tokens; an ADMIN anybody's."""

    class Arguments:  # noqa: D106
        id = graphene.ID(required=True)

    Output = graphene.NonNull(graphene.Boolean)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, id: str) -> bool:
        """True once it is refused."""
        context: Context = info.context
        await context.api_tokens.revoke(await context.session(), id)
        return True


class Mutation(graphene.ObjectType):
    """What can be changed."""

    login = LoginMutation.Field()
    logout = Logout.Field()
    create_user = CreateUser.Field()
    password_change = PasswordChange.Field()
    user_disable = UserDisable.Field()
    api_token_create = ApiTokenCreate.Field()
    api_token_revoke = ApiTokenRevoke.Field()


schema = graphene.Schema(query=Query, mutation=Mutation, types=[types.User, ApiTokenType])


def _user(user: User) -> types.User:
    return types.User(id=user.id, email=user.email, role=user.role.value)
