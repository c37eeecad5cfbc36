"""Client of Posthouse: `Posthouse` for threads, `AsyncPosthouse` for asyncio."""

from posthouse_client.aio import AsyncPosthouse, AsyncWatch
from posthouse_client.blocking import Posthouse, Watch
from posthouse_client.channels import Options
from posthouse_client.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotDeliveredError,
    NotFoundError,
    OverloadedError,
    PosthouseError,
    PreconditionError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
    WaitTimeoutError,
)
from posthouse_client.outgoing import Outgoing
from posthouse_client.updates import Update

__all__ = [
    "AsyncPosthouse",
    "AsyncWatch",
    "ForbiddenError",
    "InvalidRequestError",
    "NotDeliveredError",
    "NotFoundError",
    "Options",
    "Outgoing",
    "OverloadedError",
    "Posthouse",
    "PosthouseError",
    "PreconditionError",
    "RateLimitedError",
    "UnauthenticatedError",
    "UnavailableError",
    "Update",
    "Violation",
    "WaitTimeoutError",
    "Watch",
]
