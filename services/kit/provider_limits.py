"""Numbers per provider, as the settings write them: `twilio=30 smtp=5`."""


def parse_provider_limits(text: str) -> dict[str, float]:
    """Return the numbers by provider; raises ValueError for what is no positive number."""
    limits: dict[str, float] = {}
    for entry in text.split():
        name, _, number = entry.partition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = 0.0
        if not name or not 0 < limit <= 1_000_000:  # noqa: PLR2004 - false for nan as well
            raise ValueError(f"{entry!r} is not of the form provider=number")
        limits[name] = limit
    return limits
