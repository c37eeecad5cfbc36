"""Keys that content is sealed with."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("sealed_by", sa.Text(), nullable=True))
    op.add_column("webhook_logs", sa.Column("sealed_by", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("webhook_logs", "sealed_by")
    op.drop_column("messages", "sealed_by")
