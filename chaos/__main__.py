"""Runs the scenarios: `python -m chaos`, or `make chaos`. The exit code is 1 if a promise was broken."""

import argparse
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from chaos import breaking, broker, budget, drains, kills, rates, resend, rolling, shares, watchers
from chaos.findings import Finding, print_table
from services.kit.config import Settings
from tests.e2e.stack import E2eStack, running_stack

# No contact replies, or every send would make two messages.
_SETTINGS = {"POSTHOUSE_SIMULATOR_PROFILE": '{"reply_rate": 0}', "POSTHOUSE_LOG_LEVEL": "warning"}
# What is killed several times a minute would spend most of the run waiting for its next start.
_OPTIONS = ("--restart-pause", "0.2")

_Scenario = Callable[[E2eStack, argparse.Namespace], list[Finding]]


def _draw(options: argparse.Namespace) -> random.Random:
    return random.Random(options.seed)  # noqa: S311 - it plays accidents, it guards nothing


def _sender(number: int) -> str:
    return f"+1555123{number:04d}"


_SCENARIOS: Mapping[str, _Scenario] = {
    kills.NAME: lambda stack, options: kills.run(
        stack,
        sender=_sender(1),
        draw=_draw(options),
        kills=options.kills,
        messages=options.messages,
        pause=options.pause,
    ),
    resend.NAME: lambda stack, options: resend.run(
        stack,
        sender=_sender(9),
        draw=_draw(options),
        kills=options.dispatch_kills,
        messages=options.resends,
        pause=options.pause,
    ),
    broker.NAME: lambda stack, options: broker.run(
        stack, sender=_sender(2), draw=_draw(options), losses=options.broker_losses, rate=options.rate
    ),
    drains.NAME: lambda stack, options: drains.run(
        stack, sender=_sender(3), draw=_draw(options), sigterms=options.sigterms, rate=options.rate
    ),
    rolling.NAME: lambda stack, options: rolling.run(
        stack, sender=_sender(7), rounds=options.rounds, rate=options.rate
    ),
    breaking.NAME: lambda stack, _options: breaking.run(
        stack, sender=_sender(4), cool_down=float(Settings.model_fields["breaker_cool_down"].default)
    ),
    shares.NAME: lambda stack, options: shares.run(stack, sender=_sender(5), messages=options.attempts),
    budget.NAME: lambda stack, options: budget.run(
        stack, sender=_sender(6), waiting=options.waiting, window=60.0
    ),
    watchers.NAME: lambda stack, options: watchers.run(
        stack,
        sender=_sender(8),
        draw=_draw(options),
        resumes=options.resumes,
        rate=options.rate,
        pause=options.pause,
        idle=options.watchers,
    ),
    rates.NAME: lambda stack, options: rates.run(stack, seconds=options.seconds),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios asked for, each on a stack of its own, print the table, return the exit code."""
    options = _parse(arguments)
    findings: list[Finding] = []
    for name in options.scenario:
        began = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        findings += _run(name, options)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print_table(findings)
    return 0 if all(finding.kept for finding in findings) else 1


def _run(name: str, options: argparse.Namespace) -> list[Finding]:
    """Run one scenario; one that cannot go on has broken its promise, and the others still run."""
    try:
        with running_stack(_SETTINGS, _OPTIONS) as stack:
            try:
                return _SCENARIOS[name](stack, options)
            except Exception:
                print(stack.report(), file=sys.stderr)
                raise
    except (AssertionError, TimeoutError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        reason = str(error).partition("\n")[0]
        return [Finding(name, "the run itself", "goes on to its end", reason, kept=False)]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument(
        "--scenario",
        type=lambda text: text.split(","),
        default=list(_SCENARIOS),
        help=f"what to run, separated by commas: {', '.join(_SCENARIOS)}",
    )
    for option, kind, default, text in (
        ("--kills", int, 500, "SIGKILLs of dispatch, message and NATS"),
        ("--messages", int, 100_000, "messages sent meanwhile"),
        ("--dispatch-kills", int, 50, "SIGKILLs of dispatch in the scenario resend"),
        ("--resends", int, 10_000, "messages sent meanwhile"),
        ("--pause", float, 1.0, "seconds between two kills, on average"),
        ("--broker-losses", int, 20, "times that the broker's store is deleted"),
        ("--sigterms", int, 50, "SIGTERMs of the four processes"),
        ("--rounds", int, 10, "restarts of every process, one after the other, in the scenario rolling"),
        ("--rate", float, 100.0, "messages a second in the scenarios broker, drains, rolling and watchers"),
        ("--resumes", int, 100, "times that each watcher is cut off and comes back"),
        ("--watchers", int, 2000, "watchers of a gateway that is stopped"),
        ("--attempts", int, 5000, "messages sent through the faulty profile"),
        ("--waiting", int, 10_000, "messages a minute while the provider is down"),
        ("--seconds", float, 60.0, "length of each measurement of a rate"),
        ("--seed", int, random.SystemRandom().randrange(1_000_000), "seed of what is killed when"),
    ):
        parser.add_argument(option, type=kind, default=default, help=f"{text} (default: {default:,})")
    options = parser.parse_args(arguments)
    unknown = set(options.scenario) - set(_SCENARIOS)
    if unknown:
        parser.error(f"--scenario: {', '.join(sorted(unknown))} is none of {', '.join(_SCENARIOS)}")
    print(f"seed {options.seed}", file=sys.stderr)
    return options


if __name__ == "__main__":
    sys.exit(main())
