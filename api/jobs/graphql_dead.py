"""Dead letters in GraphQL: what can never be loaded, for an ADMIN to look at."""

from collections.abc import Sequence

import graphene

from api.graphql.scalars import DateTime, Long
from api.graphql.types import PageInfo, decode_cursor, encode_cursor, page_size
from api.jobs.context import Context
from api.jobs.dead_letters import Kept
from api.scopes import ADMIN_READ
from jobber.errors import Forbidden


class DeadLetter(graphene.ObjectType):
    """A message that is no dispatch, or a batch that can never be loaded. Its job says what became of its records."""

    topic = graphene.String(required=True, description='Where it came from; "batch": a batch; "unknown": it names nothing.')
    body = graphene.String(required=True, description="Its beginning; a batch is named by its id.")
    reason = graphene.String(required=True)
    count = Long(required=True, description="How many equal ones came.")
    first_at = graphene.Field(DateTime, required=True)
    last_at = graphene.Field(DateTime, required=True)


class DeadLetterEdge(graphene.ObjectType):
    """A place in the list."""

    cursor = graphene.String(required=True)
    node = graphene.Field(DeadLetter, required=True)


class DeadLetterConnection(graphene.ObjectType):
    """Dead letters, newest first."""

    edges = graphene.List(graphene.NonNull(DeadLetterEdge), required=True)
    page_info = graphene.Field(PageInfo, required=True)

    @staticmethod
    def of(letters: Sequence[Kept], size: int) -> "DeadLetterConnection":
        """From one more than the page has, if there is one."""
        edges = [
            DeadLetterEdge(
                cursor=encode_cursor(letter.number),
                node=DeadLetter(
                    topic=letter.topic,
                    body=letter.body.decode(errors="backslashreplace"),
                    reason=letter.reason,
                    count=letter.count,
                    first_at=letter.first_at,
                    last_at=letter.last_at,
                ),
            )
            for letter in letters[:size]
        ]
        page = PageInfo(has_next_page=len(letters) > size, end_cursor=edges[-1].cursor if edges else None)
        return DeadLetterConnection(edges=edges, page_info=page)


async def dead_letters(context: Context, first: int, after: str | None) -> DeadLetterConnection:
    """A page of them. Raises Unauthenticated, Forbidden, InvalidData."""
    if context.who.role != "ADMIN":
        raise Forbidden
    context.who.check(ADMIN_READ)
    size, place = page_size(first), decode_cursor(after, 1)
    return DeadLetterConnection.of(await context.services.dead_letters.page(size + 1, place[0] if place else None), size)
