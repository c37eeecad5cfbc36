"""Language and tenants."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns that may be null and have no default are an entry in the catalogue: no row is rewritten.
    op.add_column("conversations", sa.Column("language_confidence", sa.Double(), nullable=True))
    op.add_column("conversations", sa.Column("language_time", sa.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("messages", sa.Column("language", sa.Text(), nullable=True))
    op.add_column("messages", sa.Column("language_confidence", sa.Double(), nullable=True))
    op.create_table(
        "conversation_events",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("conversation_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("old_value", sa.Text(), nullable=True),
        sa.Column("new_value", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "conversation_events_conversation", "conversation_events", ["conversation_id", "id"], unique=False
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("language_confidence", sa.Double(), nullable=True),
        sa.Column("language_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("preference", sa.Text(), nullable=True),
        sa.Column("push_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("push_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "tenants_push",
        "tenants",
        ["push_time"],
        unique=False,
        postgresql_where=sa.text("push_time IS NOT NULL"),
    )
    op.create_table(
        "contacts",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("address_original", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("last_message_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("lookup_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("check_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("failure_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("miss_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("address"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "contacts_lookup",
        "contacts",
        ["lookup_time"],
        unique=False,
        postgresql_where=sa.text("lookup_time IS NOT NULL"),
    )
    op.create_index(
        "contacts_tenant",
        "contacts",
        ["tenant_id", sa.literal_column("last_message_time DESC")],
        unique=False,
        postgresql_where=sa.text("tenant_id IS NOT NULL"),
    )
    op.create_table(
        "tenant_numbers",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("start_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("end_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tenant_numbers_tenant", "tenant_numbers", ["tenant_id"], unique=False)
    op.create_index(
        "tenant_numbers_current",
        "tenant_numbers",
        ["address"],
        unique=True,
        postgresql_where=sa.text("end_time IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "tenant_numbers_current", table_name="tenant_numbers", postgresql_where=sa.text("end_time IS NULL")
    )
    op.drop_index("tenant_numbers_tenant", table_name="tenant_numbers")
    op.drop_table("tenant_numbers")
    op.drop_index("contacts_tenant", table_name="contacts", postgresql_where=sa.text("tenant_id IS NOT NULL"))
    op.drop_index(
        "contacts_lookup", table_name="contacts", postgresql_where=sa.text("lookup_time IS NOT NULL")
    )
    op.drop_table("contacts")
    op.drop_index("tenants_push", table_name="tenants", postgresql_where=sa.text("push_time IS NOT NULL"))
    op.drop_table("tenants")
    op.drop_index("conversation_events_conversation", table_name="conversation_events")
    op.drop_table("conversation_events")
    op.drop_column("messages", "language_confidence")
    op.drop_column("messages", "language")
    op.drop_column("conversations", "language_time")
    op.drop_column("conversations", "language_confidence")
