"""The conversations of a list that have a text: the condition, by how common its words are."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.conversation.search import RECENT, compile_query
from services.conversation.search_query import Term
from services.ledger.tables import conversations, message_search

# How words are looked for follows from how many of the newest rows have them. Common ones are looked for in
# one conversation after the other, in the order of the list. Others are found by the index: all messages that
# have them, whose conversations are then looked at in the order of the list, or one by one when they are few.
_COMMON: Final = 30
_MIDDLING: Final = 10


async def having_text(
    connection: AsyncConnection,
    terms: Sequence[Term],
    *,
    conditions: Sequence[sa.ColumnElement[bool]],
    limit: int,
) -> sa.ColumnElement[bool]:
    """Return the condition that a conversation has a message that matches.

    It may be that of the `limit` newest ones alone of those that meet the other conditions.
    """
    query = await compile_query(connection, terms)
    row = message_search.c
    recent = sa.select(row.vector).order_by(row.message_id.desc()).limit(RECENT).subquery()
    counted = sa.select(sa.func.count()).where(query.matched_by(recent.c.vector))
    matching = query.matched_by(row.vector)
    count = await connection.scalar(counted) or 0
    if count < _MIDDLING:
        return _newest_having(matching, conditions, limit)
    if count < _COMMON:
        # As a filter, which IS TRUE makes it: the planner may join all conversations otherwise.
        return conversations.c.id.in_(sa.select(row.conversation_id).where(matching)).is_(True)
    # IS TRUE keeps the index on words out of it.
    return sa.exists().where(row.conversation_id == conversations.c.id, matching.is_(True))


def _newest_having(
    matching: sa.ColumnElement[bool], conditions: Sequence[sa.ColumnElement[bool]], limit: int
) -> sa.ColumnElement[bool]:
    """Return the condition of the newest conversations with a message that the index finds.

    Each is looked up by its id: fenced off by OFFSET, or the planner may read all conversations there are.
    """
    table = conversations.c
    matched = sa.select(message_search.c.conversation_id).where(matching).distinct().offset(0).subquery()
    looked_up = (
        sa.select(table.id, table.last_message_time)
        .where(table.id == matched.c.conversation_id, *conditions)
        .correlate(matched)
        .offset(0)
        .lateral()
    )
    newest = (
        sa.select(looked_up.c.id)
        .select_from(matched.join(looked_up, sa.true()))
        .order_by(looked_up.c.last_message_time.desc(), looked_up.c.id.desc())
        .limit(limit)
    )
    return table.id.in_(newest)
