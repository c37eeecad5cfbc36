"""The kinds of columns that many tables have, and what all tables belong to."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

metadata = sa.MetaData()


def uuid_column(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[str]:
    """Return a column of ids, which are text in Python."""
    return sa.Column(name, UUID(as_uuid=False), primary_key=primary_key, nullable=nullable)


def time_column(name: str, *, nullable: bool) -> sa.Column[datetime]:
    """Return a column of points in time."""
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)
