"""What may become of messages whose outcome is unknown, as the settings write it: `twilio/sms=resend`."""

from collections.abc import Mapping

HOLD = "hold"
RESEND = "resend"


class UnknownPolicy:
    """Tells whether a message that a provider has proved not to have is sent again, or held for a person."""

    def __init__(self, choices: Mapping[tuple[str, str], str]) -> None:
        self._choices = choices

    def resends(self, provider: str, channel: str) -> bool:
        """Tell whether such messages are sent again; what is said for the channel goes first."""
        general = self._choices.get((provider, ""), HOLD)
        return self._choices.get((provider, channel), general) == RESEND


def parse_unknown_policy(text: str) -> UnknownPolicy:
    """Return the policy of `provider=policy provider/channel=policy`; raises ValueError for anything else."""
    choices: dict[tuple[str, str], str] = {}
    for entry in text.split():
        place, _, choice = entry.partition("=")
        provider, slash, channel = place.partition("/")
        if not provider or bool(slash) != bool(channel) or choice not in (HOLD, RESEND):
            raise ValueError(f"{entry!r} is not of the form provider=hold or provider/channel=resend")
        choices[provider, channel] = choice
    return UnknownPolicy(choices)
