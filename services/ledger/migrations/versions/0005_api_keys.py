"""API keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("old_prefix", sa.Text(), nullable=True),
        sa.Column("old_digest", postgresql.BYTEA(), nullable=True),
        sa.Column("overlap_end_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("update_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("rotate_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expire_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoke_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("prefix"),
    )
    op.create_index("api_keys_update", "api_keys", ["update_time"], unique=False)


def downgrade() -> None:
    op.drop_index("api_keys_update", table_name="api_keys")
    op.drop_table("api_keys")
