"""How often the providers of an envelope have been asked, in place of a payload that nothing wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("outbox", "payload")
    op.add_column("outbox", sa.Column("inquiry_count", sa.SmallInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("outbox", "inquiry_count")
    op.add_column("outbox", sa.Column("payload", sa.LargeBinary()))
