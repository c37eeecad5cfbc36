"""Finds messages by their words, newest first, in bounded steps."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation.fields import read_participant_filter
from services.conversation.filters import has_participant
from services.conversation.highlighting import excerpt
from services.conversation.search_query import Term, matches, read_query, stemmable, tsquery
from services.conversation.search_text import CONFIGURATIONS, Searchable
from services.conversation.words import stem_input
from services.kit.fields import read_label
from services.kit.ids import NO_ID, first_id_at, parse_id, time_of_id
from services.ledger.database import keyring_of
from services.ledger.row_mapping import MESSAGE_COLUMNS, message_from_row
from services.ledger.tables import conversations, message_search, messages

# The newest rows are looked through one by one: words that are common fill a page from them. The rest is
# looked for by the index, which cannot say what is newest: in windows of time. How long each is follows from
# what was found before it; these are its length to all before it, at most, at least (twice as long each
# time), and to what should do. Reading the index costs more than looking at rows in vain: hence the margin.
RECENT: Final = 6_000
_MOST: Final = 32.0
_LEAST: Final = 0.5
_MARGIN: Final = 2.5
# A phrase of common words is costly for the index, which does not know where words stand. When so many of the
# newest rows have it, so many more are looked through one by one. Its pages end with fewer hits.
_PHRASES: Final = 3
_PHRASE_ROWS: Final = 40_000
_PHRASE_ENOUGH: Final = 10
# With so many found, a page ends with a window rather than wait for another one.
_ENOUGH: Final = 20

# Conversations of a filter that are looked through one by one, and messages that they may have together.
_FEW_CONVERSATIONS: Final = 500
_FEW_MESSAGES: Final = 10_000

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
        """Return the condition that a vector matches.

        The parameter is a tsquery itself: a cast of a text would be made again for every row.
        """
        return vector.op("@@", is_comparison=True)(sa.literal(self.tsquery, TSQUERY))


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
    """Return a page of hits, newest first, and the id below which the next one starts, None on the last.

    A page that is not the last may be shorter than `limit`.
    """
    query = await compile_query(connection, search.terms)
    ids, end = await _find(connection, search, query, before=before, limit=limit + 1)
    hits = await _hits(connection, query, ids[:limit])
    return hits, ids[limit - 1] if len(ids) > limit else end


async def compile_query(connection: AsyncConnection, terms: Sequence[Term]) -> CompiledQuery:
    """Return a query with the stems of its words in every language that messages are stemmed in."""
    stems = await _stems(connection, stemmable(terms))
    return CompiledQuery(tsquery(terms, stems), *matches(terms, stems))


async def _find(
    connection: AsyncConnection, search: Search, query: CompiledQuery, *, before: str | None, limit: int
) -> tuple[list[str], str | None]:
    """Return up to `limit` ids, and where it was looked until if there may be more below."""
    row = message_search.c
    narrowed: list[sa.ColumnElement[bool]] = []
    if search.conversation_id:
        narrowed.append(row.conversation_id == search.conversation_id)
    within = _conversation_conditions(search)
    if within:
        few = await _few_conversations(connection, within)
        if few is not None:
            narrowed.append(_is_one_of(row.conversation_id, few))
    newest = row.message_id.desc()
    older = [row.message_id < before] if before is not None else []
    if narrowed:
        statement = sa.select(row.message_id).where(*narrowed, *older, query.matched_by(row.vector))
        return list((await connection.execute(statement.order_by(newest).limit(limit))).scalars()), None
    found = await _walk(connection, query, within, before=before, rows=RECENT, limit=limit)
    if len(found) >= limit:
        return found, None
    ids = sa.select(row.message_id).where(*older).order_by(newest).limit(1)
    ends = sa.select(
        ids.scalar_subquery().label("first"), ids.offset(RECENT - 1).scalar_subquery().label("last")
    )
    first, last = (await connection.execute(ends)).one()
    if last is None:
        return found, None
    phrase = any(len(term.words) > 1 for term in search.terms)
    if phrase and len(found) >= _PHRASES:
        more = await _walk(
            connection, query, within, before=last, rows=_PHRASE_ROWS, limit=limit - len(found)
        )
        if len(found) + len(more) >= min(_PHRASE_ENOUGH, limit):
            found += more
            return found, found[-1]
    conditions = [query.matched_by(row.vector)]
    if within:
        conditions.append(_among(row.conversation_id, within))
    wanted, enough = (min(_PHRASE_ENOUGH, limit),) * 2 if phrase else (limit, min(_ENOUGH, limit))
    end = await _find_older(
        connection, conditions, found, first=first, before=last, wanted=wanted, enough=enough, limit=limit
    )
    return found, end


async def _walk(
    connection: AsyncConnection,
    query: CompiledQuery,
    within: Sequence[sa.ColumnElement[bool]],
    *,
    before: str | None,
    rows: int,
    limit: int,
) -> list[str]:
    """Return up to `limit` ids that are found among the newest `rows` below `before`."""
    row = message_search.c
    recent = sa.select(row.message_id, row.conversation_id, row.vector).order_by(row.message_id.desc())
    if before is not None:
        recent = recent.where(row.message_id < before)
    walked = recent.limit(rows).subquery()
    statement = sa.select(walked.c.message_id).where(query.matched_by(walked.c.vector))
    if within:
        statement = statement.where(_among(walked.c.conversation_id, within))
    # Said again: a join with the conversations need not keep the order of what was walked.
    statement = statement.order_by(walked.c.message_id.desc()).limit(limit)
    return list((await connection.execute(statement)).scalars())


async def _find_older(
    connection: AsyncConnection,
    conditions: Sequence[sa.ColumnElement[bool]],
    found: list[str],
    *,
    first: str,
    before: str,
    wanted: int,
    enough: int,
    limit: int,
) -> str | None:
    """Add what meets the conditions below `before` to what was found from `first` to there, newest first.

    Windows are as long as `wanted` asks for, and end with `enough`. Return where it was looked until if
    there may be more below.
    """
    row = message_search.c
    newest, moment, least = time_of_id(first), time_of_id(before), _LEAST
    while before != NO_ID and (least == _LEAST or len(found) < enough):
        share = min(_MOST, _MARGIN * max(0, wanted - len(found)) / len(found)) if found else _MOST
        span = max(least, share) * (newest - moment)
        least *= 2
        begin = first_id_at(datetime.fromtimestamp(moment - span, UTC)) if 0 < span < moment else NO_ID
        matching = sa.select(row.message_id).where(
            row.message_id < before, row.message_id >= begin, *conditions
        )
        # Fenced off by OFFSET, or the planner may walk all of the table in the order asked for.
        fenced = matching.offset(0).subquery()
        statement = sa.select(fenced.c.message_id).order_by(fenced.c.message_id.desc())
        found += (await connection.execute(statement.limit(limit - len(found)))).scalars()
        before, moment = begin, moment - span
    return before if before != NO_ID else None


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
    """Return the conversations that meet the conditions, None when they or their messages are many."""
    columns = conversations.c.id, conversations.c.message_count
    statement = sa.select(*columns).where(*conditions).limit(_FEW_CONVERSATIONS + 1)
    rows = (await connection.execute(statement)).all()
    if len(rows) > _FEW_CONVERSATIONS or sum(row.message_count for row in rows) > _FEW_MESSAGES:
        return None
    return [row.id for row in rows]


def _is_one_of(column: sa.ColumnElement[str], ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition of IN with one parameter: hundreds take as long to send as to search."""
    return column == sa.any_(sa.literal(list(ids), ARRAY(sa.UUID(as_uuid=False))))


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
        .where(_is_one_of(messages.c.id, ids))
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
        .where(_is_one_of(message_search.c.message_id, ids), found)
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
