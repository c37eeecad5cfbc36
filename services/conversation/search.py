"""Finds messages by their words, newest first, in bounded steps."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation.fields import read_participant_filter
from services.conversation.filters import has_participant
from services.conversation.highlighting import excerpt
from services.conversation.search_query import Term, matches, read_query, stemmable, tsquery
from services.conversation.search_text import CONFIGURATIONS, Searchable
from services.conversation.words import stem_input
from services.kit.fields import read_label
from services.kit.ids import first_id_at, parse_id, time_of_id
from services.ledger.database import keyring_of
from services.ledger.row_mapping import MESSAGE_COLUMNS, message_from_row
from services.ledger.tables import conversations, message_search, messages

# The newest rows, which are looked through one by one: words that are common fill a page from them. Those
# that do not are looked for by the index on words, which cannot say what is newest: in windows of time, each
# so many times longer than the one before, that what it finds is about a page.
_RECENT: Final = 8_000
_GROWTH: Final = 16

# Conversations of a filter that are looked through one by one.
_FEW_CONVERSATIONS: Final = 500


# Of the newest rows, so many with a word make it common for a filter of conversations: walking them in their
# order, about 50 are found in the time the index needs to find all messages with a rarer word.
_COMMON: Final = 10

_NO_ID: Final = "00000000-0000-0000-0000-000000000000"

# Only constants of this project go into the text.
_STEMS = sa.text(
    "SELECT word, "  # noqa: S608
    + " || ".join(f"ts_lexize('{name}_stem', {language})" for language, name in CONFIGURATIONS.items())
    + " AS stems FROM unnest(CAST(:words AS text[]), "
    + ", ".join(f"CAST(:{language} AS text[])" for language in CONFIGURATIONS)
    + f") AS t(word, {', '.join(CONFIGURATIONS)})"
)


class Search(NamedTuple):
    """What to find: a query in words, within what the other fields name; empty ones mean anything."""

    terms: Sequence[Term]
    conversation_id: str = ""
    participant: str = ""
    tenant_id: str = ""


class CompiledQuery(NamedTuple):
    """A query as PostgreSQL has it, and what of it is highlighted."""

    tsquery: str
    lexemes: list[str]
    prefixes: list[str]

    def matched_by(self, vector: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that a vector matches."""
        return vector.op("@@", is_comparison=True)(sa.cast(self.tsquery, TSQUERY))


def read_search(request: pb.SearchMessagesRequest, *, region: str) -> Search:
    """Return what a request asks for, or raise InvalidRequestError naming the field.

    `region` is where numbers without a country code belong.
    """
    return Search(
        read_query("query", request.query),
        parse_id("conversation_id", request.conversation_id) if request.conversation_id else "",
        read_participant_filter("participant", request.participant, region=region),
        read_label("tenant_id", request.tenant_id),
    )


async def search_messages(
    connection: AsyncConnection, search: Search, *, before: str | None, limit: int
) -> tuple[list[pb.SearchHit], str | None]:
    """Return a page of hits, newest first, and the id where the next one starts, None on the last."""
    query = await compile_query(connection, search.terms)
    ids = await _find(connection, search, query, before=before, limit=limit + 1)
    hits = await _hits(connection, query, ids[:limit])
    return hits, ids[limit - 1] if len(ids) > limit else None


async def compile_query(connection: AsyncConnection, terms: Sequence[Term]) -> CompiledQuery:
    """Return a query with the stems of its words in every language that messages are stemmed in."""
    stems = await _stems(connection, stemmable(terms))
    return CompiledQuery(tsquery(terms, stems), *matches(terms, stems))


async def _find(
    connection: AsyncConnection, search: Search, query: CompiledQuery, *, before: str | None, limit: int
) -> list[str]:
    row = message_search.c
    narrowed: list[sa.ColumnElement[bool]] = []
    if search.conversation_id:
        narrowed.append(row.conversation_id == search.conversation_id)
    within = _conversation_conditions(search)
    if within:
        few = await _few_conversations(connection, within)
        if few is not None:
            narrowed.append(row.conversation_id.in_(few))
    older = [row.message_id < before] if before is not None else []
    newest = row.message_id.desc()
    if narrowed:
        statement = sa.select(row.message_id).where(*narrowed, *older, query.matched_by(row.vector))
        return list((await connection.execute(statement.order_by(newest).limit(limit))).scalars())
    recent = sa.select(row.message_id, row.conversation_id, row.vector).where(*older)
    walked = recent.order_by(newest).limit(_RECENT).subquery()
    statement = sa.select(walked.c.message_id).where(query.matched_by(walked.c.vector))
    if within:
        statement = statement.where(_among(walked.c.conversation_id, within))
    found = list((await connection.execute(statement.limit(limit))).scalars())
    if len(found) >= limit:
        return found
    ids = sa.select(row.message_id).where(*older).order_by(newest).limit(1)
    ends = sa.select(
        ids.scalar_subquery().label("first"), ids.offset(_RECENT - 1).scalar_subquery().label("last")
    )
    first, last = (await connection.execute(ends)).one()
    if last is None:
        return found
    conditions = [query.matched_by(row.vector)]
    if within:
        conditions.append(_among(row.conversation_id, within))
    span = time_of_id(first) - time_of_id(last)
    return found + await _find_older(connection, conditions, before=last, span=span, limit=limit - len(found))


async def _find_older(
    connection: AsyncConnection,
    conditions: Sequence[sa.ColumnElement[bool]],
    *,
    before: str,
    span: float,
    limit: int,
) -> list[str]:
    """Return the ids below `before` that meet the conditions, newest first; `span` is in seconds."""
    row = message_search.c
    found: list[str] = []
    moment = time_of_id(before)
    while before != _NO_ID and len(found) < limit:
        span *= _GROWTH
        begin = (
            first_id_at(datetime.fromtimestamp(max(0.0, moment - span), UTC)) if 0 < span < moment else _NO_ID
        )
        matching = sa.select(row.message_id).where(
            row.message_id < before, row.message_id >= begin, *conditions
        )
        # Fenced off by OFFSET, or the planner may walk all of the table in the order asked for.
        fenced = matching.offset(0).subquery()
        statement = sa.select(fenced.c.message_id).order_by(fenced.c.message_id.desc())
        found += (await connection.execute(statement.limit(limit - len(found)))).scalars()
        before = begin
    return found


def _conversation_conditions(search: Search) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if search.participant:
        found.append(has_participant(search.participant))
    if search.tenant_id:
        found.append(conversations.c.tenant_id == search.tenant_id)
    return found


async def _few_conversations(
    connection: AsyncConnection, conditions: Sequence[sa.ColumnElement[bool]]
) -> list[str] | None:
    """Return the conversations that meet the conditions, None when they are many."""
    statement = sa.select(conversations.c.id).where(*conditions).limit(_FEW_CONVERSATIONS + 1)
    ids = list((await connection.execute(statement)).scalars())
    return ids if len(ids) <= _FEW_CONVERSATIONS else None


def _among(
    conversation_id: sa.ColumnElement[str], conditions: Sequence[sa.ColumnElement[bool]]
) -> sa.ColumnElement[bool]:
    return sa.exists().where(conversations.c.id == conversation_id, *conditions)


async def _hits(connection: AsyncConnection, query: CompiledQuery, ids: Sequence[str]) -> list[pb.SearchHit]:
    if not ids:
        return []
    columns: tuple[sa.ColumnElement[Any], ...] = (*MESSAGE_COLUMNS, conversations.c.tenant_id)
    statement = (
        sa.select(*columns)
        .outerjoin_from(messages, conversations, conversations.c.id == messages.c.conversation_id)
        .where(messages.c.id.in_(ids))
        .order_by(messages.c.id.desc())
    )
    rows = (await connection.execute(statement)).all()
    places = await _places(connection, query, ids)
    found = [(message_from_row(row, keyring_of(connection)), row.tenant_id) for row in rows]
    return [
        pb.SearchHit(
            message=message,
            highlight=excerpt(
                Searchable(
                    message.sender,
                    message.recipient,
                    tenant_id,
                    message.subject,
                    message.body,
                    message.html,
                ),
                places.get(message.id, ()),
            ),
        )
        for message, tenant_id in found
    ]


async def _places(
    connection: AsyncConnection, query: CompiledQuery, ids: Sequence[str]
) -> dict[str, list[int]]:
    """Return where in each vector the words of the query stand."""
    unnested = sa.func.unnest(message_search.c.vector).table_valued("lexeme", "positions").lateral("word")
    found: sa.ColumnElement[bool] = unnested.c.lexeme.in_(query.lexemes)
    for prefix in query.prefixes:
        found = sa.or_(found, sa.func.starts_with(unnested.c.lexeme, prefix))
    statement = (
        sa.select(message_search.c.message_id, unnested.c.positions)
        .select_from(message_search)
        .join(unnested, sa.true())
        .where(message_search.c.message_id.in_(ids), found)
    )
    places: dict[str, list[int]] = {}
    for row in await connection.execute(statement):
        places.setdefault(row.message_id, []).extend(row.positions or ())
    return places


async def _stems(connection: AsyncConnection, words: Sequence[str]) -> dict[str, list[str]]:
    if not words:
        return {}
    forms = {language: [stem_input(language, word) for word in words] for language in CONFIGURATIONS}
    rows = await connection.execute(_STEMS, {"words": list(words), **forms})
    return {row.word: [stem for stem in row.stems if stem != row.word] for row in rows}


async def having_text(connection: AsyncConnection, terms: Sequence[Term]) -> sa.ColumnElement[bool]:
    """Return the condition that a conversation has a message that matches."""
    query = await compile_query(connection, terms)
    row = message_search.c
    recent = sa.select(row.vector).order_by(row.message_id.desc()).limit(_RECENT).subquery()
    counted = sa.select(sa.func.count()).where(query.matched_by(recent.c.vector))
    if (await connection.scalar(counted) or 0) < _COMMON:
        matching = sa.select(row.conversation_id).where(query.matched_by(row.vector)).distinct()
        return conversations.c.id.in_((await connection.execute(matching)).scalars().all())
    # Common words are in many of the conversations that are looked at anyway.
    return sa.exists().where(row.conversation_id == conversations.c.id, query.matched_by(row.vector))
