"""The one PostgreSQL schema: tables, message states, and every transaction that moves a message."""
