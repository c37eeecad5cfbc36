"""An index of the outbox rows that a dispatcher holds."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("outbox_owned", "outbox", ["owner"], postgresql_where=sa.text("owner > 0"))


def downgrade() -> None:
    op.drop_index("outbox_owned", table_name="outbox")
