"""A provider that fails for some: do the faults that arrive have the shares that were asked for?"""

from chaos.audit import audit
from chaos.findings import Finding
from chaos.load import Load
from tests.e2e.stack import E2eStack

NAME = "shares"

_ERRORS, _LIMITED = 0.30, 0.10
_TOLERANCE = 0.05

_ATTEMPTS = """
SELECT coalesce(a.error_code, ''), count(*) FROM dispatch_attempts a JOIN messages m ON m.id = a.message_id
WHERE m.sender = %(sender)s GROUP BY 1
"""


def run(stack: E2eStack, *, sender: str, messages: int) -> list[Finding]:
    """Send through 30 % server errors and 10 % rate limits, without a seed, and count the attempts."""
    stack.simulate(server_error_rate=_ERRORS, rate_limited_rate=_LIMITED, callback_delay_ms=50)
    with Load(stack, sender) as load:
        load.release(messages)
    found = audit(stack, load.client)
    stack.simulate(callback_delay_ms=100)
    counts = dict(stack.rows(_ATTEMPTS, {"sender": sender}))
    total = sum(counts.values())
    findings = found.findings(NAME)
    for text, code, share in (("server errors", "20500", _ERRORS), ("rate limits", "20429", _LIMITED)):
        observed = counts.get(code, 0) / total
        findings.append(
            Finding(
                NAME,
                f"share of {text}",
                f"{share:.0%} ± {_TOLERANCE * 100:g} points",
                f"{observed:.1%} of {total:,} attempts",
                abs(observed - share) <= _TOLERANCE,
            )
        )
    return findings
