"""No more statistics of the tables that every message writes to than plans ask for.

ANALYZE reads 300 rows for each step of the finest statistics of a table, and sorts each column that it keeps
any of.
"""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# By table, the columns that something is found by; of the others nothing is kept.
_FOUND_BY: Final[Mapping[str, str]] = {
    "messages": "id conversation_id channel direction state sender recipient priority"
    " create_time message_time send_time expire_time next_attempt_time",
    "message_events": "message_id sequence type create_time",
    "dispatch_attempts": "message_id number provider outcome start_time provider_message_id",
    "provider_events": "provider event_key message_id create_time",
    "webhook_logs": "id provider verdict create_time",
}
_FEW: Final = 20
_USUAL: Final = -1


def upgrade() -> None:
    for table, found_by in _FOUND_BY.items():
        kept = found_by.split()
        _set(table, {name: _FEW if name in kept else 0 for name in _columns(table)})


def downgrade() -> None:
    for table in _FOUND_BY:
        _set(table, dict.fromkeys(_columns(table), _USUAL))


def _columns(table: str) -> list[str]:
    return [column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)]


def _set(table: str, targets: Mapping[str, int]) -> None:
    changes = (f"ALTER COLUMN {name} SET STATISTICS {target}" for name, target in targets.items())
    op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
