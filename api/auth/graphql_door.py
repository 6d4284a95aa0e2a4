"""The GraphQL door of auth: login, users. Raised JobberErrors become errors with `extensions.code`."""

from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

import graphene
from starlette.requests import HTTPConnection

from api.auth.model import Login, Role, Session, User
from api.auth.service import Auth
from api.graphql.http_door import RESPONSE_HEADERS
from api.graphql.scalars import DateTime
from api.graphql.tokens import COOKIE, SECURE_COOKIE, from_our_page, is_https, token_of
from jobber.errors import Forbidden, InvalidData, Unauthenticated


@dataclass(slots=True)
class Context:
    """One request's."""

    auth: Auth
    connection: HTTPConnection
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
        secure = is_https(self.connection)
        for name in (SECURE_COOKIE if secure else COOKIE,) if login else (SECURE_COOKIE, COOKIE):
            cookie: SimpleCookie = SimpleCookie({name: login.token if login else ""})
            morsel = cookie[name]
            morsel["path"], morsel["samesite"] = "/", "Strict"
            morsel["httponly"] = True
            morsel["secure"] = secure or name == SECURE_COOKIE
            if login:
                morsel["expires"] = login.session.expires_at.strftime("%a, %d %b %Y %H:%M:%S GMT")
            else:
                morsel["max-age"] = 0
            self.connection.scope.setdefault(RESPONSE_HEADERS, []).append(("set-cookie", morsel.OutputString()))


class Node(graphene.Interface):
    """Anything with an id."""

    id = graphene.ID(required=True)


# Without a description Python 3.11 gives it one and 3.12 none.
RoleEnum = graphene.Enum("Role", [(role.value, role.value) for role in Role], description="What a user may do.")


class UserType(graphene.ObjectType):
    """Who may log in."""

    class Meta:  # noqa: D106
        name = "User"
        interfaces = (Node,)

    email = graphene.String(required=True)
    role = graphene.Field(RoleEnum, required=True)

    @staticmethod
    def of(user: User) -> "UserType":
        """As people see one."""
        return UserType(id=user.id, email=user.email, role=user.role.value)


class LoginPayload(graphene.ObjectType):
    """A session; its token goes into `Authorization: Bearer …`."""

    token = graphene.String(required=True)
    expires_at = graphene.Field(DateTime, required=True)
    id = graphene.ID(required=True, description="The user's.")
    email = graphene.String(required=True)


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

    me = graphene.Field(UserType, description="The caller; null without a token.")
    users = graphene.List(graphene.NonNull(UserType), required=True, description="All users; for an ADMIN.")

    async def resolve_me(root: Any, info: graphene.ResolveInfo) -> UserType | None:
        """A token that is not good is an error, not nobody."""
        context: Context = info.context
        return UserType.of((await context.session()).user) if token_of(context.connection) is not None else None

    async def resolve_users(root: Any, info: graphene.ResolveInfo) -> list[UserType]:
        """Oldest first."""
        context: Context = info.context
        return [UserType.of(user) for user in await context.auth.users((await context.session()).user)]


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
        given = _one(input, login_input, "input", "loginInput")
        login = await context.auth.login(given["email"], given["password"])
        context.set_cookie(login)
        session = login.session
        return LoginPayload(token=login.token, expires_at=session.expires_at, id=session.user.id, email=session.user.email)


class CreateUser(graphene.Mutation):
    """Make a MEMBER; for an ADMIN."""

    class Arguments:  # noqa: D106
        input = CreateUserInput()
        create_user_input = CreateUserInput()

    Output = graphene.NonNull(UserType)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, input: Any = None, create_user_input: Any = None) -> UserType:
        """Give exactly one of the two arguments, which mean the same."""
        context: Context = info.context
        caller = (await context.session()).user
        given = _one(input, create_user_input, "input", "createUserInput")
        return UserType.of(await context.auth.create_user(caller, given["email"], given["password"]))


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
    """Change the caller's password; all their sessions end."""

    class Arguments:  # noqa: D106
        current = graphene.String(required=True)
        new = graphene.String(required=True)

    Output = graphene.NonNull(graphene.Boolean)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, current: str, new: str) -> bool:
        """True once it is changed."""
        context: Context = info.context
        await context.auth.change_password((await context.session()).user, current, new)
        context.set_cookie(None)
        return True


class UserDisable(graphene.Mutation):
    """Let a user log in no more; all their sessions end. For an ADMIN."""

    class Arguments:  # noqa: D106
        id = graphene.ID(required=True)

    Output = graphene.NonNull(UserType)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, id: str) -> UserType:
        """The user, disabled."""
        context: Context = info.context
        return UserType.of(await context.auth.disable((await context.session()).user, id))


class Mutation(graphene.ObjectType):
    """What can be changed."""

    login = LoginMutation.Field()
    logout = Logout.Field()
    create_user = CreateUser.Field()
    password_change = PasswordChange.Field()
    user_disable = UserDisable.Field()


schema = graphene.Schema(query=Query, mutation=Mutation)


def _one(first: Any, second: Any, one: str, other: str) -> Any:
    if (first is None) == (second is None):
        raise InvalidData(f"Give exactly one of `{one}` and `{other}`.")
    return first if first is not None else second
