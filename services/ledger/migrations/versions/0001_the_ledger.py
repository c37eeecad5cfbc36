"""The ledger."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("channel_family", sa.Text(), nullable=False),
        sa.Column("participant_a", sa.Text(), nullable=False),
        sa.Column("participant_b", sa.Text(), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_message_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("message_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("inbound_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("read_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("archive_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("workflow_type", sa.Text(), nullable=True),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "conversations_last_message",
        "conversations",
        [sa.literal_column("last_message_time DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "conversations_participant_a", "conversations", ["participant_a", "participant_b"], unique=False
    )
    op.create_index("conversations_participant_b", "conversations", ["participant_b"], unique=False)
    op.create_index(
        "conversations_tenant",
        "conversations",
        ["tenant_id"],
        unique=False,
        postgresql_where=sa.text("tenant_id IS NOT NULL"),
    )
    op.create_index(
        "conversations_workflow",
        "conversations",
        ["workflow_type", "workflow_id"],
        unique=False,
        postgresql_where=sa.text("workflow_type IS NOT NULL"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("attempt_count", sa.SmallInteger(), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("replay_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_index(
        "dead_letters_newest",
        "dead_letters",
        [sa.literal_column("create_time DESC"), sa.literal_column("message_id DESC")],
        unique=False,
    )
    op.create_table(
        "dispatch_attempts",
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("number", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("start_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("end_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("route_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("message_id", "number"),
    )
    op.create_index(
        "dispatch_attempts_provider_message",
        "dispatch_attempts",
        ["provider_message_id"],
        unique=False,
        postgresql_where=sa.text("provider_message_id IS NOT NULL"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_hash", postgresql.BYTEA(), nullable=False),
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("caller", "request_id"),
    )
    op.create_index(
        "idempotency_keys_create_time",
        "idempotency_keys",
        ["create_time"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "message_events",
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("provider_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempt_number", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("message_id", "sequence"),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("conversation_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("sender_original", sa.Text(), nullable=True),
        sa.Column("recipient_original", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=True),
        sa.Column("attachments", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("segment_count", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("segment_encoding", sa.Text(), nullable=True),
        sa.Column("caller", sa.Text(), server_default="", nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("update_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("message_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("send_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expire_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_attempt_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempt_count", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("event_count", sa.Integer(), server_default="1", nullable=False),
        sa.Column("state_sequence", sa.Integer(), server_default="1", nullable=False),
        sa.Column("attempt_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("provider_message_id", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": "45"},
    )
    op.create_index(
        "messages_conversation",
        "messages",
        ["conversation_id", sa.literal_column("message_time DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("message_ids", postgresql.ARRAY(sa.UUID(as_uuid=False)), nullable=True),
        sa.Column("payload", postgresql.BYTEA(), nullable=True),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("due_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("publish_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owner", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index("outbox_due", "outbox", ["due_time"], unique=False)
    op.create_table(
        "provider_events",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("event_key", sa.Text(), nullable=False),
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("webhook_log_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "event_key"),
    )
    op.create_index(
        "provider_events_create_time",
        "provider_events",
        ["create_time"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "webhook_logs",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", postgresql.BYTEA(), nullable=False),
        sa.Column("remote_address", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "webhook_logs_create_time", "webhook_logs", ["create_time"], unique=False, postgresql_using="brin"
    )


def downgrade() -> None:
    op.drop_index("webhook_logs_create_time", table_name="webhook_logs", postgresql_using="brin")
    op.drop_table("webhook_logs")
    op.drop_index("provider_events_create_time", table_name="provider_events", postgresql_using="brin")
    op.drop_table("provider_events")
    op.drop_index("outbox_due", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("messages_conversation", table_name="messages")
    op.drop_table("messages")
    op.drop_table("message_events")
    op.drop_index("idempotency_keys_create_time", table_name="idempotency_keys", postgresql_using="brin")
    op.drop_table("idempotency_keys")
    op.drop_index(
        "dispatch_attempts_provider_message",
        table_name="dispatch_attempts",
        postgresql_where=sa.text("provider_message_id IS NOT NULL"),
    )
    op.drop_table("dispatch_attempts")
    op.drop_index("dead_letters_newest", table_name="dead_letters")
    op.drop_table("dead_letters")
    op.drop_index(
        "conversations_workflow",
        table_name="conversations",
        postgresql_where=sa.text("workflow_type IS NOT NULL"),
    )
    op.drop_index(
        "conversations_tenant", table_name="conversations", postgresql_where=sa.text("tenant_id IS NOT NULL")
    )
    op.drop_index("conversations_participant_b", table_name="conversations")
    op.drop_index("conversations_participant_a", table_name="conversations")
    op.drop_index("conversations_last_message", table_name="conversations")
    op.drop_table("conversations")
