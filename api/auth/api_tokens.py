"""API tokens: what programs log in with. Made by a person, shown once, and good for no more than their scopes say."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from api import tokens
from api.audit import Act
from api.auth.model import ApiToken, Role, Session
from api.auth.service import actor_of, check_person, is_uuid
from api.auth.token_store import TokenStore
from api.scopes import SCOPES
from jobber.errors import InvalidData, NotFound
from jobber.log import event

MAX_NAME = 100


class ApiTokens:
    """Makes, lists and revokes them."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    async def create(
        self, caller: Session, name: str, scopes: Sequence[str], expires_at: datetime | None
    ) -> tuple[str, ApiToken]:
        """The token itself, which is shown this once, and what is kept of it. Raises Forbidden, InvalidData."""
        check_person(caller)
        name = name.strip()
        if not (0 < len(name) <= MAX_NAME and name.isprintable()):
            raise InvalidData(f"A token's name has 1 to {MAX_NAME} printable characters.")
        wanted = sorted(set(scopes))
        if not wanted or not set(wanted) <= set(SCOPES):
            raise InvalidData(f"Scopes are one or more of: {', '.join(SCOPES)}.")
        made = ApiToken(str(uuid.uuid4()), name, tuple(wanted), expires_at)
        token = tokens.new_api_token()
        act = Act(actor_of(caller), "token.create", f"token:{made.id}", {"name": name, "scopes": wanted})
        await self._store.add(made, caller.user.id, tokens.api_token_hash(token), act)
        event("token_made", "An API token was made.", user_id=caller.user.id, credential=made.id)
        return token, made

    async def of(self, caller: Session) -> list[ApiToken]:
        """The caller's, without their secrets. Raises Forbidden."""
        check_person(caller)
        return await self._store.of_user(caller.user.id)

    async def revoke(self, caller: Session, token_id: str) -> None:
        """End one of the caller's tokens, as an ADMIN anybody's. Raises Forbidden, NotFound."""
        check_person(caller)
        if not is_uuid(token_id):
            raise NotFound("There is no such token, or it is not yours.")
        owner = None if caller.user.role is Role.ADMIN else caller.user.id
        await self._store.revoke(token_id, owner, Act(actor_of(caller), "token.revoke", f"token:{token_id}"))
        event("token_revoked", "An API token was revoked.", user_id=caller.user.id, credential=token_id)
