"""Search in windows of time."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "message_search_window",
        "message_search",
        ["message_id"],
        postgresql_using="brin",
        postgresql_with={"autosummarize": True, "pages_per_range": 32},
    )


def downgrade() -> None:
    op.drop_index("message_search_window", table_name="message_search", postgresql_using="brin")
