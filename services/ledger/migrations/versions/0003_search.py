"""Search."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "message_search",
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("conversation_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("vector", postgresql.TSVECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_index("message_search_conversation", "message_search", ["conversation_id", "message_id"])
    op.create_index(
        "message_search_vector",
        "message_search",
        ["vector"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 512},
    )
    op.create_table(
        "search_progress",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.UUID(as_uuid=False), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "search_stale",
        sa.Column("conversation_id", sa.UUID(as_uuid=False), nullable=False),
        sa.PrimaryKeyConstraint("conversation_id"),
    )
    # Whoever links a tenant or learns a language need not know that search rows hold both. Intake names
    # neither column in its UPDATE, so that the trigger never fires there.
    op.execute(
        """
CREATE FUNCTION note_stale_search() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO search_stale (conversation_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$
"""
    )
    op.execute(
        """
CREATE TRIGGER conversations_search_stale AFTER UPDATE OF tenant_id, language ON conversations
FOR EACH ROW WHEN ((OLD.tenant_id, OLD.language) IS DISTINCT FROM (NEW.tenant_id, NEW.language))
EXECUTE FUNCTION note_stale_search()
"""
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER conversations_search_stale ON conversations")
    op.execute("DROP FUNCTION note_stale_search()")
    op.drop_table("search_stale")
    op.drop_table("search_progress")
    op.drop_index("message_search_vector", table_name="message_search", postgresql_using="gin")
    op.drop_index("message_search_conversation", table_name="message_search")
    op.drop_table("message_search")
