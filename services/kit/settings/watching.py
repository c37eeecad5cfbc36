"""Watching events, searching, and telling others of events."""

from pydantic import Field
from pydantic_settings import BaseSettings


class WatchSettings(BaseSettings):
    """Watching events, searching, and telling others of events."""

    search_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Share of its time a conversation process may spend on indexing for search; 0: none.",
    )
    watch_streams: int = Field(
        default=10_000, ge=1, description="Watchers of events a process serves at once; more are refused."
    )
    watch_heartbeat: float = Field(
        default=15.0,
        gt=0,
        le=300,
        description="Seconds without an event after which a watcher gets a sign of life.",
    )
    watch_buffer: int = Field(
        default=20_000, ge=1, description="Newest events a process keeps for watchers that come back."
    )
    watch_backlog: int = Field(
        default=10_000,
        ge=1,
        description="Events that may wait for one slow watcher before its stream is ended.",
    )
