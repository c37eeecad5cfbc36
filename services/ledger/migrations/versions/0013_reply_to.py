"""Where an e-mail is answered to, by message."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("reply_to", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("messages", "reply_to")
