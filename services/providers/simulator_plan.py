"""What the simulator does with a batch of messages: outcomes, and the callbacks that will follow.

Pure but for chance, ids and the given time. Error codes are Twilio's where it has one.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate, count
from json.encoder import encode_basestring_ascii as _json
from typing import Any, Final

import uuid_utils

from services.providers import simulator_draws as draws
from services.providers.base import Accepted, OutboundMessage, Outcome, Rejected, Retryable, Unknown
from services.providers.simulator_draws import Draw, fingerprint, free_draw, seeded_draw
from services.providers.simulator_profile import SimulatorProfile

RATE_LIMITED: Final = Retryable("20429", "too many requests", retry_after=1.0)
SERVER_ERROR: Final = Retryable("20500", "internal server error")
REJECTED: Final = Rejected("21211", "invalid recipient")
TIMED_OUT: Final = Unknown("timeout", "no answer in time")
# To whoever waits it looks the same, and is told apart by identity here. It was not accepted.
LOST: Final = Unknown("timeout", "no answer in time")

# Code of an undelivered message: unreachable destination.
UNDELIVERED_CODE: Final = "30003"
_UNDELIVERED_FIELD: Final = f',"error_code":"{UNDELIVERED_CODE}"'

REPLY_TEXT: Final = "Thanks, got your message! This is a simulated reply."

# Most events in one bundle, and in one webhook request.
BUNDLE_SIZE: Final = 500

_DUPLICATE_AFTER_MS: Final = 200
_LATE_STEP_MS: Final = 250
_LATE_STEPS: Final = 5

_PREFIXES: Final = {"sms": "SM", "mms": "MM", "email": "EM", "voice": "CA"}

# A reply without media to an MMS is an SMS, as carriers report it.
_REPLY_CHANNELS: Final = {"mms": "sms"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """Callbacks that are due together: JSON objects separated by commas. `due_ms` is Unix time."""

    due_ms: int
    event_count: int
    events: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a batch. The rows of `accepted` are as SimulatorStore.add takes them."""

    outcomes: list[Outcome]
    accepted: list[list[Any]]
    bundles: list[Bundle]


def body_hash(message: OutboundMessage) -> str:
    """Return the SHA-256 of a message's body in hex."""
    return hashlib.sha256(message.body.encode()).hexdigest()


def fingerprints(messages: Sequence[OutboundMessage], hashes: Sequence[str]) -> list[int]:
    """Return the keys of messages by which seeded draws know them."""
    return [fingerprint(message, digest) for message, digest in zip(messages, hashes, strict=True)]


def make_plan(
    messages: Sequence[OutboundMessage],
    hashes: Sequence[str],
    profiles: Mapping[str, SimulatorProfile],
    ordinals: Mapping[int, tuple[int, int]],
    now_ms: int,
) -> Plan:
    """Decide on every message.

    `ordinals` has fingerprint and ordinal by position in the batch, for messages whose profile is seeded.
    """
    terms = {channel: _terms(channel, profiles[channel], now_ms) for channel in {m.channel for m in messages}}
    outcomes: list[Outcome] = []
    accepted: list[list[Any]] = []
    calendar: defaultdict[int, list[str]] = defaultdict(list)
    suffixes = _suffixes(1 << len(messages).bit_length())
    for message, position, suffix, digest in zip(messages, count(), suffixes, hashes, strict=False):
        term = terms[message.channel]
        draw: Draw = free_draw
        if term.profile.seed:
            draw = seeded_draw(term.profile.seed, *ordinals[position])
        refusal = _refusal(term, draw) if term.refusals else None
        if refusal is not None and refusal is not TIMED_OUT:
            outcomes.append(refusal)
            continue
        provider_id = term.id_stem + suffix
        outcomes.append(refusal or Accepted(provider_id))
        row = [
            message.id,
            message.attempt,
            provider_id,
            message.channel,
            message.sender,
            message.recipient,
            digest,
            now_ms,
        ]
        accepted.append(row)
        _enter_callbacks(calendar, term, draw, message, suffix)
    return Plan(outcomes, accepted, _bundles(calendar))


@dataclass(frozen=True, slots=True)
class _Terms:
    """A channel's profile worked out for one batch. The texts are JSON already."""

    profile: SimulatorProfile
    # Draws below the bound, and not below an earlier one, have this outcome.
    refusals: list[tuple[float, Outcome]]
    may_fail: bool
    always_replies: bool
    # Callbacks are neither lost, nor repeated, nor late.
    steady: bool
    # Ids are a stem, which sorts by time, and the position in the batch in eight hex digits.
    id_stem: str
    reply_id_stem: str
    receipt_ms: int
    reply_ms: int
    # What all receipts and all replies of the batch have in common.
    receipt_tail: str
    reply_tail: str


def _terms(channel: str, profile: SimulatorProfile, now_ms: int) -> _Terms:
    rates: tuple[tuple[float, Outcome], ...] = (
        (profile.rate_limited_rate, RATE_LIMITED),
        (profile.server_error_rate, SERVER_ERROR),
        (profile.rejected_rate, REJECTED),
        (profile.timeout_rate, TIMED_OUT),
        (profile.lost_rate, LOST),
    )
    bounds = accumulate(rate for rate, _ in rates)
    faults = (profile.callback_loss_rate, profile.callback_reorder_rate, profile.callback_duplicate_rate)
    receipt_ms = now_ms + profile.callback_delay_ms
    reply_ms = receipt_ms + profile.reply_delay_ms
    reply_channel = _REPLY_CHANNELS.get(channel, channel)
    return _Terms(
        profile=profile,
        refusals=[(bound, outcome) for bound, (rate, outcome) in zip(bounds, rates, strict=True) if rate],
        may_fail=profile.undelivered_rate > 0,
        always_replies=profile.reply_rate >= 1,
        steady=not any(faults),
        id_stem=_id_stem(channel),
        reply_id_stem=_id_stem(reply_channel),
        receipt_ms=receipt_ms,
        reply_ms=reply_ms,
        receipt_tail=f',"timestamp":"{_timestamp(receipt_ms)}"',
        reply_tail=(
            f',"channel":{_json(reply_channel)},"body":{_json(profile.reply_text or REPLY_TEXT)}'
            f',"timestamp":"{_timestamp(reply_ms)}"'
        ),
    )


def _refusal(terms: _Terms, draw: Draw) -> Outcome | None:
    """Return what is answered instead of plain acceptance, if anything."""
    number = draw(draws.REFUSAL)
    for bound, outcome in terms.refusals:
        if number < bound:
            return outcome
    return None


def _enter_callbacks(
    calendar: defaultdict[int, list[str]],
    terms: _Terms,
    draw: Draw,
    message: OutboundMessage,
    suffix: str,
) -> None:
    """Enter the receipt of an accepted message, and its contact's reply, where they are due.

    Written as text, since a dictionary per event would double the cost of sending.
    """
    profile = terms.profile
    provider_id = terms.id_stem + suffix
    message_id = _json(message.id)
    kind = "delivered"
    extra = ""
    if terms.may_fail and draw(draws.UNDELIVERED) < profile.undelivered_rate:
        kind = "undelivered"
        extra = _UNDELIVERED_FIELD
    receipt = (
        f'{{"event":"{kind}","event_id":"{provider_id}-{kind}","message_id":{message_id},'
        f'"attempt":{message.attempt},"provider_message_id":"{provider_id}"{terms.receipt_tail}{extra}}}'
    )
    for due_ms in (terms.receipt_ms,) if terms.steady else _due_times(terms, draw, terms.receipt_ms, 0):
        calendar[due_ms].append(receipt)
    if extra or (not terms.always_replies and draw(draws.REPLY) >= profile.reply_rate):
        return
    reply_id = terms.reply_id_stem + suffix
    subject = _json(f"Re: {message.subject}") if message.subject else '""'
    reply = (
        f'{{"event":"reply","event_id":"{reply_id}-reply","message_id":{message_id},'
        f'"attempt":{message.attempt},"provider_message_id":"{reply_id}","from":{_json(message.recipient)},'
        f'"to":{_json(message.sender)},"subject":{subject}{terms.reply_tail}}}'
    )
    for due_ms in (
        (terms.reply_ms,) if terms.steady else _due_times(terms, draw, terms.reply_ms, draws.REPLY_OFFSET)
    ):
        calendar[due_ms].append(reply)


def _due_times(terms: _Terms, draw: Draw, due_ms: int, offset: int) -> tuple[int, ...]:
    """Return when an event is sent, as often and as late as the profile's faults want it."""
    profile = terms.profile
    if draw(draws.LOSS + offset) < profile.callback_loss_rate:
        return ()
    if draw(draws.REORDER + offset) < profile.callback_reorder_rate:
        # In steps, so that late events still share bundles.
        due_ms += _LATE_STEP_MS * (1 + int(draw(draws.LATENESS + offset) * _LATE_STEPS))
    if draw(draws.DUPLICATE + offset) < profile.callback_duplicate_rate:
        return due_ms, due_ms + _DUPLICATE_AFTER_MS
    return (due_ms,)


def _bundles(calendar: Mapping[int, list[str]]) -> list[Bundle]:
    return [
        Bundle(due_ms, len(part), ",".join(part))
        for due_ms, events in sorted(calendar.items())
        for part in (events[start : start + BUNDLE_SIZE] for start in range(0, len(events), BUNDLE_SIZE))
    ]


def _id_stem(channel: str) -> str:
    return f"{_PREFIXES.get(channel, 'XM')}{uuid_utils.uuid7().hex[:24]}"


def _timestamp(unix_ms: int) -> str:
    return (
        datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


@cache
def _suffixes(size: int) -> tuple[str, ...]:
    """Return the numbers from 0 in eight hex digits; formatting them each time costs as much as hashing."""
    return tuple(f"{number:08x}" for number in range(size))
