"""Numbers per provider or sender, as the settings write them: `twilio=30 smtp=5`."""


def parse_limits(text: str, of: str) -> dict[str, float]:
    """Return the numbers by name; raises ValueError for what is no positive number. `of` says of whom."""
    limits: dict[str, float] = {}
    for entry in text.split():
        name, _, number = entry.rpartition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = 0.0
        if not name or not 0 < limit <= 1_000_000:  # noqa: PLR2004 - false for nan as well
            raise ValueError(f"{entry!r} is not of the form {of}=number")
        limits[name] = limit
    return limits


def parse_provider_limits(text: str) -> dict[str, float]:
    """Return the numbers by provider; raises ValueError for what is no positive number."""
    return parse_limits(text, "provider")


def parse_sender_limits(text: str) -> dict[str, float]:
    """Return the numbers by sender; raises ValueError for what is no positive number."""
    return parse_limits(text, "sender")
