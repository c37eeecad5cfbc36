"""What a scenario has found: one line per promise, and the table of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise of one scenario, with what was measured."""

    scenario: str
    subject: str
    promised: str
    measured: str
    kept: bool


def print_table(findings: Iterable[Finding]) -> None:
    """Print all findings as one table."""
    table = Table(title="What was promised, and what happened")
    for name in ("scenario", "", "promised", "measured", "kept"):
        table.add_column(name)
    scenario = None
    for finding in findings:
        if scenario is not None and finding.scenario != scenario:
            table.add_section()
        first = "" if finding.scenario == scenario else finding.scenario
        scenario = finding.scenario
        verdict = "yes" if finding.kept else "[bold red]NO[/]"
        table.add_row(first, finding.subject, finding.promised, finding.measured, verdict)
    Console(width=150).print(table)
