"""Fills a ledger with made-up messages by COPY: `python -m benchmarks.fill --messages 1000000 <url>`.

Everything follows from the seed: two runs make the same texts, times and states, though not the same ids.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import psycopg

from services.ledger.threading import conversation_id, conversation_key

# Texts are of these words, the first ones far more often: word n has a share of about 1/n.
_WORDS = 20_000
_TEXT_LENGTH = (4, 24)
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
  'tenant-' || abs(hashtext(m.conversation_id::text)) % %(tenants)s
FROM messages m LEFT JOIN conversations c ON c.id = m.conversation_id WHERE c.id IS NULL GROUP BY 1
"""
_EVENTS = """
INSERT INTO message_events (message_id, sequence, type, create_time)
SELECT id, 1, CASE direction WHEN 'inbound' THEN 'received' ELSE 'accepted' END, create_time FROM messages
WHERE id = ANY(%(ids)s)
"""
# The words of these texts are their own folded form, so that PostgreSQL can make the search rows by itself.
_SEARCH = """
INSERT INTO message_search (message_id, conversation_id, vector)
SELECT m.id, m.conversation_id, to_tsvector('simple',
  ltrim(m.sender, '+') || ' ' || substr(m.sender, 3) || ' ' || ltrim(m.recipient, '+') || ' '
  || substr(m.recipient, 3) || ' ' || replace(coalesce(c.tenant_id, ''), '-', ' ') || ' ' || m.body)
FROM messages m JOIN conversations c ON c.id = m.conversation_id
LEFT JOIN message_search s ON s.message_id = m.id WHERE s.message_id IS NULL
"""
_INDEXED = """
INSERT INTO search_progress (name, position) SELECT name, max(id::text)::uuid
FROM messages, (VALUES ('newest'), ('late')) AS passes (name) GROUP BY name
ON CONFLICT (name) DO UPDATE SET position = excluded.position
"""
_VECTOR_INDEX = "CREATE INDEX message_search_vector ON message_search USING gin (vector) WITH (gin_pending_list_limit = 512)"


def fill(url: str, *, messages: int, conversations: int, search: bool = True, seed: int = 1) -> None:
    """Write messages of the last 90 days, oldest first, between 20 numbers of ours and many contacts."""
    start = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET work_mem = '256MB'"
        )
        chance = random.Random(seed)  # noqa: S311 - no secrets
        pairs = [_pair(number) for number in range(conversations)]
        texts = _Texts(chance)
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
            connection.execute(_INDEXED)
            _say("search index", start)
        connection.execute("VACUUM (ANALYZE) messages, conversations, message_search")
        _say("vacuumed", start)


class _Texts:
    """Texts of words whose frequencies are like those of a language."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._words = [_word(number) for number in range(_WORDS)]
        total, self._weights = 0.0, []
        for number in range(_WORDS):
            total += 1 / (number + 2)
            self._weights.append(total)

    def __next__(self) -> str:
        length = self._chance.randint(*_TEXT_LENGTH)
        return " ".join(self._chance.choices(self._words, cum_weights=self._weights, k=length))

    def __iter__(self) -> Iterator[str]:
        return self


def word(rank: int) -> str:
    """Return the word of a rank: 0 is in every other text, 1,000 in one of a hundred or so."""
    return _word(rank)


def _word(number: int) -> str:
    syllables = (
        "ba",
        "co",
        "di",
        "fu",
        "ge",
        "hi",
        "jo",
        "ku",
        "la",
        "me",
        "ni",
        "po",
        "qua",
        "ri",
        "so",
        "tu",
    )
    parts = [syllables[number % 16]]
    while number >= 16:
        number //= 16
        parts.append(syllables[number % 16])
    return "".join(parts) + "n"


def _pair(number: int) -> tuple[str, str, str]:
    ours, contact = f"+1555{1_000_000 + number % _OURS}", f"+1555{2_000_000 + number}"
    return conversation_id("sms", *conversation_key("sms", ours, contact)), ours, contact


def _line(
    number: int,
    moment: datetime,
    pairs: Sequence[tuple[str, str, str]],
    texts: _Texts,
    chance: random.Random,
) -> str:
    # Some conversations have many messages, most few; every one has at least one.
    thread, ours, contact = pairs[number if number < len(pairs) else int(len(pairs) * chance.random() ** 2)]
    inbound = chance.random() < 0.4
    sender, recipient = (contact, ours) if inbound else (ours, contact)
    state = (
        "received" if inbound else ("delivered", "delivered", "delivered", "sent", "undelivered")[number % 5]
    )
    direction = "inbound" if inbound else "outbound"
    events = 1 if inbound else 4
    time_text = moment.isoformat()
    return (
        f"{_id(moment, chance)}\t{thread}\tsms\t{direction}\t{state}\t{sender}\t{recipient}\t{next(texts)}\tnormal\t"
        f"{0 if inbound else 1}\t{'\\N' if inbound else 'gsm7'}\t{time_text}\t{time_text}\t{time_text}\t{events}\t{events}\t"
        f"{0 if inbound else 1}\n"
    )


def _id(moment: datetime, chance: random.Random) -> str:
    """Return a UUIDv7 of a moment."""
    milliseconds = f"{int(moment.timestamp() * 1000):012x}"
    noise = f"{chance.getrandbits(72):018x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{noise[:3]}-{0x8000 | int(noise[3:7], 16) & 0x3FFF:04x}-{noise[6:18]}"


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
