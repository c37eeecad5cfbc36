"""Fills a ledger with made-up messages: `python -m benchmarks.fill --messages 1000000 <url>`.

PostgreSQL makes the rows by itself, from a list of pairs and a list of texts. Everything follows from the
seed: two runs make the same texts and states.
"""

import argparse
import itertools
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from services.kit.ids import first_id_at
from services.ledger.threading import conversation_id

# Texts are of these words, the first ones far more often: word n has a share of about 1/n.
_WORDS = 20_000
_TEXT_LENGTH = (4, 24)
# So many texts are made; messages take one of them each.
_TEXTS = 100_000
_SYLLABLES = ("ba", "co", "di", "fu", "ge", "hi", "jo", "ku", "la", "me", "ni", "po", "qua", "ri", "so", "tu")
_TENANTS = 200
_OURS = 20
_BATCH = 250_000

_LISTS = """
CREATE TEMP TABLE pairs (number int PRIMARY KEY, conversation_id uuid, ours text, theirs text);
CREATE TEMP TABLE texts (number int PRIMARY KEY, body text)
"""
# Some conversations have many messages, most few; every one has at least one.
_MESSAGES = """
WITH drawn AS MATERIALIZED (
  SELECT n, %(first)s::timestamptz + n * %(step)s::interval AS moment, random() AS pair, random() AS text,
    random() < 0.4 AS inbound, md5(n::text || random()::text) AS digits
  FROM generate_series(%(begun)s::int, %(end)s::int) AS n
), made AS (
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7' || substr(digits, 1, 3)
      || '8' || substr(digits, 4, 15))::uuid AS id,
    n, moment, inbound, conversation_id, ours, theirs, body, CASE
      WHEN inbound THEN 'received'
      ELSE ('{delivered,delivered,delivered,sent,undelivered}'::text[])[n %% 5 + 1]
    END AS state
  FROM drawn
  JOIN pairs ON pairs.number = CASE WHEN n < %(pairs)s THEN n ELSE floor(%(pairs)s * drawn.pair ^ 2) END
  JOIN texts ON texts.number = floor(%(texts)s * drawn.text)
), sized AS (
  SELECT *, CASE state WHEN 'received' THEN 1 WHEN 'sent' THEN 3 ELSE 4 END AS events FROM made
)
INSERT INTO messages (
  id, conversation_id, channel, direction, state, sender, recipient, body, priority, segment_count,
  segment_encoding, create_time, update_time, message_time, event_count, state_sequence, attempt_count,
  provider, provider_message_id
)
SELECT id, conversation_id, 'sms', CASE WHEN inbound THEN 'inbound' ELSE 'outbound' END, state,
  CASE WHEN inbound THEN theirs ELSE ours END, CASE WHEN inbound THEN ours ELSE theirs END, body, 'normal',
  CASE WHEN inbound THEN 0 ELSE 1 END, CASE WHEN NOT inbound THEN 'gsm7' END, moment, moment, moment, events,
  events, CASE WHEN inbound THEN 0 ELSE 1 END, 'simulator', 'SM' || md5(id::text)
FROM sized ORDER BY id
"""
# What the way of each message leaves behind: its events, its attempt, and the news that a provider brought.
_HISTORY = (
    """
INSERT INTO message_events (message_id, sequence, type, create_time, attempt_number, provider)
SELECT m.id, e.sequence, e.type, m.create_time, e.attempt, m.provider
FROM messages m CROSS JOIN LATERAL (
  VALUES (1, CASE m.direction WHEN 'inbound' THEN 'received' ELSE 'accepted' END, 0), (2, 'sending', 1),
    (3, 'sent', 1), (4, m.state, 1)
) AS e(sequence, type, attempt)
WHERE m.id >= %(since)s AND m.id < %(until)s AND e.sequence <= m.event_count
ORDER BY m.id, e.sequence ON CONFLICT DO NOTHING
""",
    """
INSERT INTO dispatch_attempts (
  message_id, number, provider, outcome, start_time, end_time, provider_message_id, route_reason
)
SELECT id, 1, provider, 'accepted', create_time, create_time, provider_message_id, 'the first of its rule'
FROM messages
WHERE id >= %(since)s AND id < %(until)s AND direction = 'outbound'
ORDER BY id ON CONFLICT DO NOTHING
""",
    """
INSERT INTO provider_events (provider, event_key, message_id, create_time)
SELECT provider, provider_message_id || ':' || state, id, create_time FROM messages
WHERE id >= %(since)s AND id < %(until)s AND state <> 'sent'
ORDER BY 2 ON CONFLICT DO NOTHING
""",
)
# Counts and times follow from the messages; which of them is the newest does too.
_CONVERSATIONS = """
INSERT INTO conversations (
  id, channel_family, participant_a, participant_b, create_time, last_message_time, last_message_id,
  message_count, inbound_count, read_count, tenant_id
)
SELECT m.conversation_id, 'sms', min(least(m.sender, m.recipient)), min(greatest(m.sender, m.recipient)),
  min(m.create_time), max(m.create_time), max(m.id::text)::uuid, count(*),
  count(*) FILTER (WHERE m.direction = 'inbound'), (count(*) FILTER (WHERE m.direction = 'inbound')) / 2,
  'tenant-' || abs(hashtext(m.conversation_id::text)) %% %(tenants)s
FROM messages m LEFT JOIN conversations c ON c.id = m.conversation_id WHERE c.id IS NULL GROUP BY 1
"""
# The words of these texts are their own folded form, so that PostgreSQL can make the search rows by itself.
_SEARCH = """
INSERT INTO message_search (message_id, conversation_id, vector)
SELECT m.id, m.conversation_id, to_tsvector('simple',
  ltrim(m.sender, '+') || ' ' || substr(m.sender, 3) || ' ' || ltrim(m.recipient, '+') || ' '
  || substr(m.recipient, 3) || ' ' || replace(coalesce(c.tenant_id, ''), '-', ' ') || ' ' || m.body)
FROM messages m JOIN conversations c ON c.id = m.conversation_id
LEFT JOIN message_search s ON s.message_id = m.id WHERE s.message_id IS NULL
ON CONFLICT DO NOTHING
"""
_INDEXED = """
INSERT INTO search_progress AS p (name, position) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET position = greatest(p.position, excluded.position)
"""
_VECTOR_INDEX = (
    "CREATE INDEX message_search_vector ON message_search USING gin (vector)"
    " WITH (gin_pending_list_limit = 512)"
)


def fill(
    url: str, *, messages: int, conversations: int, search: bool = True, history: bool = True, seed: int = 1
) -> None:
    """Write messages of the last 90 days, oldest first, between 20 numbers of ours and many contacts.

    `history` adds what became of each on its way, `search` what is searched.
    """
    start = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET work_mem = '256MB';"
            "SET TimeZone = 'UTC'"
        )
        # What is made up is not for the indexer of a process that is running.
        end = datetime.now(UTC)
        for name in ("newest", "late"):
            connection.execute(_INDEXED, [name, first_id_at(end)])
        _make_lists(connection, conversations, seed)
        step = timedelta(days=90) / messages
        first = end - messages * step
        for begun in range(0, messages, _BATCH):
            last = min(begun + _BATCH, messages) - 1
            connection.execute(
                _MESSAGES,
                {
                    "begun": begun,
                    "end": last,
                    "first": first,
                    "step": step,
                    "pairs": conversations,
                    "texts": _TEXTS,
                },
            )
            since, until = first + begun * step, first + (last + 1) * step
            for statement in _HISTORY if history else ():
                connection.execute(statement, {"since": first_id_at(since), "until": first_id_at(until)})
            _say(f"{last + 1:,} messages", start)
        connection.execute(_CONVERSATIONS, {"tenants": _TENANTS})
        _say("conversations", start)
        if search:
            connection.execute("DROP INDEX message_search_vector")
            connection.execute(_SEARCH)
            _say("search rows", start)
            connection.execute(_VECTOR_INDEX)
            _say("search index", start)
        connection.execute("VACUUM (ANALYZE)")
        _say("vacuumed", start)


def _make_lists(connection: psycopg.Connection[Any], conversations: int, seed: int) -> None:
    """Store what messages are drawn from, and how."""
    connection.execute(_LISTS)
    with connection.cursor().copy("COPY pairs FROM STDIN") as copy:
        for number in range(conversations):
            copy.write_row((number, *_pair(number)))
    with connection.cursor().copy("COPY texts FROM STDIN") as copy:
        for number, text in enumerate(_make_texts(random.Random(seed))):  # noqa: S311 - no secrets
            copy.write_row((number, text))
    connection.execute("ANALYZE pairs; ANALYZE texts")
    connection.execute("SELECT setseed(%s)", [1 / (seed + 1)])


def _make_texts(chance: random.Random) -> list[str]:
    """Return texts of words whose frequencies are like those of a language."""
    words = [word(rank) for rank in range(_WORDS)]
    weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(_WORDS)))
    return [
        " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(*_TEXT_LENGTH)))
        for _ in range(_TEXTS)
    ]


def word(rank: int) -> str:
    """Return the word of a rank: that of 0 is in most texts, that of 1,000 in one of a thousand or so."""
    parts = [_SYLLABLES[rank % 16]]
    while rank >= 16:
        rank //= 16
        parts.append(_SYLLABLES[rank % 16])
    return "".join(parts) + "n"


def contact(number: int) -> str:
    """Return the address of the contact of a conversation, which are numbered from 0."""
    return f"+1555{2_000_000 + number}"


def _pair(number: int) -> tuple[str, str, str]:
    ours, theirs = f"+1555{1_000_000 + number % _OURS}", contact(number)
    return conversation_id("sms", ours, theirs), ours, theirs


def _say(what: str, start: float) -> None:
    print(f"{time.monotonic() - start:6.1f} s  {what}", file=sys.stderr)


def main() -> None:
    """Read the arguments and fill."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fill", description=__doc__)
    parser.add_argument("url", help="database with the newest schema")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--no-search", dest="search", action="store_false", help="leave search rows out")
    parser.add_argument(
        "--no-history",
        dest="history",
        action="store_false",
        help="leave events, attempts and receipts out",
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    fill(
        options.url,
        messages=options.messages,
        conversations=min(options.conversations, options.messages),
        search=options.search,
        history=options.history,
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
