"""How the simulator behaves for a channel: the profile, its defaults and its JSON form."""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.kit.errors import InvalidRequestError

# Channels of which a contact answers unless told otherwise; a call is not answered by a text.
_TEXTING: Final = frozenset({"sms", "mms", "email"})

_REFUSALS: Final = ("rate_limited_rate", "server_error_rate", "rejected_rate", "timeout_rate", "lost_rate")

_DAY_MS: Final = 86_400_000
_MAX_REPLY: Final = 1600
_SEED_LIMIT: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class SimulatorProfile:
    """Behaviour for one channel; the fields are those of the contract's SimulatorProfile.

    Rates are probabilities from 0 to 1; those of the five outcomes that are not plain acceptance
    share one draw, so together they are at most 1. Raises InvalidRequestError for a value out of bounds.
    """

    rate_limited_rate: float = 0.0
    server_error_rate: float = 0.0
    timeout_rate: float = 0.0
    lost_rate: float = 0.0
    rejected_rate: float = 0.0
    latency_ms: int = 0
    callback_delay_ms: int = 100
    callback_duplicate_rate: float = 0.0
    callback_loss_rate: float = 0.0
    callback_reorder_rate: float = 0.0
    undelivered_rate: float = 0.0
    reply_rate: float = 0.0
    reply_delay_ms: int = 300
    reply_text: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), field.type)
        if sum(getattr(self, name) for name in _REFUSALS) > 1 + 1e-9:
            raise InvalidRequestError.field(
                _REFUSALS[0], f"must not exceed 1 together with {', '.join(_REFUSALS[1:])}"
            )

    def to_json(self) -> bytes:
        """Return the profile as a JSON object, without its channel."""
        return orjson.dumps(self)


def default_profile(channel: str) -> SimulatorProfile:
    """Return the profile with which everything succeeds and, where one texts, the contact replies."""
    return SimulatorProfile(reply_rate=1.0 if channel in _TEXTING else 0.0)


def profile_from(channel: str, values: Mapping[str, Any]) -> SimulatorProfile:
    """Return the channel's default profile with some values replaced, or raise InvalidRequestError."""
    known = {field.name for field in dataclasses.fields(SimulatorProfile)}
    for name in values:
        if name not in known:
            raise InvalidRequestError.field(str(name), "is not a field of a profile")
    return dataclasses.replace(default_profile(channel), **values)


def read_profiles(text: str, channels: Collection[str]) -> dict[str, SimulatorProfile]:
    """Return the profile of every channel as POSTHOUSE_SIMULATOR_PROFILE describes them.

    The text is a JSON object, or a list of them; a later one wins. `channel` names the channel it holds
    for, without it the object holds for all. What is not mentioned keeps its default.
    Raises InvalidRequestError.
    """
    profiles = {channel: default_profile(channel) for channel in channels}
    if not text.strip():
        return profiles
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"is not JSON: {error}") from error
    for item in read if isinstance(read, list) else [read]:
        if not isinstance(item, dict):
            raise InvalidRequestError("must be a JSON object or a list of objects")
        values = dict(item)
        channel = values.pop("channel", "")
        if channel and channel not in profiles:
            raise InvalidRequestError.field("channel", f"must be one of {', '.join(sorted(channels))}")
        for name in [channel] if channel else channels:
            profiles[name] = profile_from(name, values)
    return profiles


def _check(name: str, value: object, kind: object) -> None:
    """Raise InvalidRequestError unless the value is of its field's kind and within its bounds."""
    if name == "reply_text":
        if not isinstance(value, str) or len(value) > _MAX_REPLY or "\0" in value:
            raise InvalidRequestError.field(
                name, f"must be a text of at most {_MAX_REPLY} characters without NUL"
            )
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InvalidRequestError.field(name, "must be a number from 0 to 1")
    elif isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError.field(name, "must be a whole number")
    elif name == "seed":
        if not -_SEED_LIMIT <= value < _SEED_LIMIT:
            raise InvalidRequestError.field(name, "must fit into 64 bits")
    elif not 0 <= value <= _DAY_MS:
        raise InvalidRequestError.field(name, f"must be from 0 to {_DAY_MS} milliseconds")
