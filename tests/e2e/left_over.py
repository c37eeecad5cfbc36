"""Tells of messages that are not done: their events, their attempts, and what waits for them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

_MOST: Final = 5

_STATES: Final = "SELECT state, count(*) FROM messages GROUP BY state ORDER BY state"

_OUTBOX: Final = """
SELECT subject, owner, publish_count, count(*), sum(cardinality(message_ids)), min(due_time) - now()
FROM outbox GROUP BY subject, owner, publish_count ORDER BY subject, owner, publish_count
"""

# The eldest first. What was SENT waits for its receipt.
_MESSAGES: Final = """
SELECT m.id::text, m.state, (now() - m.create_time)::text,
  ARRAY(
    SELECT concat_ws(' ', e.type, e.create_time - m.create_time, e.error_code, e.detail)
    FROM message_events e WHERE e.message_id = m.id ORDER BY e.sequence
  ),
  ARRAY(
    SELECT concat_ws(' ', a.number, a.provider, a.outcome, a.error_code, a.end_time - a.start_time)
    FROM dispatch_attempts a WHERE a.message_id = m.id ORDER BY a.number
  ),
  ARRAY(
    SELECT concat_ws(' ', o.subject, o.owner, o.publish_count, o.due_time - now())
    FROM outbox o WHERE m.id = ANY(o.message_ids) ORDER BY o.due_time
  )
FROM messages m
WHERE m.state IN ('pending', 'scheduled', 'sending', 'unknown', 'sent')
ORDER BY m.create_time LIMIT
"""


def left_over(rows: Callable[[str], Sequence[tuple[Any, ...]]]) -> str:
    """Return lines about what is not done; `rows` answers queries of the ledger."""
    lines = ["--- states", *(f"{state} {count}" for state, count in rows(_STATES))]
    lines += ["--- outbox: subject, owner, publish count, rows, messages, due", *map(str, rows(_OUTBOX))]
    lines.append(f"--- the eldest {_MOST} messages that are not done")
    for message_id, state, age, events, attempts, waiting in rows(f"{_MESSAGES} {_MOST}"):
        lines += [
            f"{message_id} {state}, {age} old",
            *(f"  event {event}" for event in events),
            *(f"  attempt {attempt}" for attempt in attempts),
            *(f"  outbox {row}" for row in waiting),
        ]
    return "\n".join(lines)
