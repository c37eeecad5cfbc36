"""Consent."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A constant default is kept in the catalogue: no row is rewritten.
    op.add_column(
        "messages",
        sa.Column("transactional", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_table(
        "opt_outs",
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("event_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("channel_family", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("keyword", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("recipient", "sender"),
    )
    op.create_index("opt_outs_event", "opt_outs", ["event_id"], unique=True)
    op.create_table(
        "consent_events",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("channel_family", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("keyword", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("caller", sa.Text(), server_default="", nullable=False),
        sa.Column("effective", sa.Boolean(), nullable=False),
        sa.Column("event_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "consent_events_pair",
        "consent_events",
        ["recipient", "sender", sa.literal_column("event_time DESC")],
        unique=False,
    )
    op.create_index(
        "consent_events_overridden",
        "consent_events",
        ["message_id"],
        unique=True,
        postgresql_where=sa.text("change = 'overridden'"),
    )


def downgrade() -> None:
    op.drop_index(
        "consent_events_overridden",
        table_name="consent_events",
        postgresql_where=sa.text("change = 'overridden'"),
    )
    op.drop_index("consent_events_pair", table_name="consent_events")
    op.drop_table("consent_events")
    op.drop_index("opt_outs_event", table_name="opt_outs")
    op.drop_table("opt_outs")
    op.drop_column("messages", "transactional")
