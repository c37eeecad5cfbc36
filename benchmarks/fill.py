"""Fills a ledger with made-up messages by COPY: `python -m benchmarks.fill --messages 1000000 <url>`.

Everything follows from the seed: two runs make the same texts, times and states, though not the same ids.
"""

import argparse
import itertools
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

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
_BATCH = 50_000

_MESSAGES = (
    "COPY messages (id, conversation_id, channel, direction, state, sender, recipient, body, priority,"
    " segment_count, segment_encoding, create_time, update_time, message_time, event_count, state_sequence,"
    " attempt_count) FROM STDIN"
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


def fill(url: str, *, messages: int, conversations: int, search: bool = True, seed: int = 1) -> None:
    """Write messages of the last 90 days, oldest first, between 20 numbers of ours and many contacts."""
    start = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET work_mem = '256MB'"
        )
        # What is copied is not for the indexer of a process that is running.
        now = first_id_at(datetime.now(UTC))
        for name in ("newest", "late"):
            connection.execute(_INDEXED, [name, now])
        chance = random.Random(seed)  # noqa: S311 - no secrets
        pairs = [_pair(number) for number in range(conversations)]
        texts = _make_texts(chance)
        first = datetime.now(UTC) - timedelta(days=90)
        step = timedelta(days=90) / messages
        for begun in range(0, messages, _BATCH):
            count = min(_BATCH, messages - begun)
            with connection.cursor().copy(_MESSAGES) as copy:
                for number in range(begun, begun + count):
                    copy.write(_line(number, first + number * step, pairs, texts, chance))
            _say(f"{begun + count:,} messages", start)
        connection.execute(_CONVERSATIONS, {"tenants": _TENANTS})
        _say("conversations", start)
        if search:
            connection.execute("DROP INDEX message_search_vector")
            connection.execute(_SEARCH)
            _say("search rows", start)
            connection.execute(_VECTOR_INDEX)
            _say("search index", start)
        connection.execute("VACUUM (ANALYZE) messages, conversations, message_search")
        _say("vacuumed", start)


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


def _line(
    number: int,
    moment: datetime,
    pairs: Sequence[tuple[str, str, str]],
    texts: Sequence[str],
    chance: random.Random,
) -> str:
    # Some conversations have many messages, most few; every one has at least one.
    thread, ours, theirs = pairs[number if number < len(pairs) else int(len(pairs) * chance.random() ** 2)]
    inbound = chance.random() < 0.4
    sender, recipient = (theirs, ours) if inbound else (ours, theirs)
    state = (
        "received" if inbound else ("delivered", "delivered", "delivered", "sent", "undelivered")[number % 5]
    )
    direction = "inbound" if inbound else "outbound"
    events = 1 if inbound else 4
    text = texts[int(chance.random() * _TEXTS)]
    time_text = moment.isoformat()
    cells = (
        _id(moment, chance), thread, "sms", direction, state, sender, recipient, text, "normal",
        0 if inbound else 1, r"\N" if inbound else "gsm7", time_text, time_text, time_text, events, events,
        0 if inbound else 1,
    )  # fmt: skip
    return "\t".join(map(str, cells)) + "\n"


def _id(moment: datetime, chance: random.Random) -> str:
    """Return a UUIDv7 of a moment."""
    digits = f"{int(moment.timestamp() * 1000):012x}7{chance.getrandbits(76):019x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _say(what: str, start: float) -> None:
    print(f"{time.monotonic() - start:6.1f} s  {what}", file=sys.stderr)


def main() -> None:
    """Read the arguments and fill."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fill", description=__doc__)
    parser.add_argument("url", help="database with the newest schema")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--no-search", dest="search", action="store_false", help="leave search rows out")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    fill(
        options.url,
        messages=options.messages,
        conversations=min(options.conversations, options.messages),
        search=options.search,
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
