"""What `posthouse up` says on the terminal."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

_CURL = """\
curl -X POST {url}/api/v1/messages/send -H 'Content-Type: application/json' \\
  -d '{{"from": "+15551234567", "to": "+15559876543", "body": "Hello from Posthouse"}}'"""


class StackConsole:
    """Prints plain lines where output is not a terminal, so that logs of it can be read too."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False)

    def starting(self, folder: Path) -> None:
        """Print that the start has begun: the first one takes a few seconds."""
        self._console.print(f"[bold]Posthouse {version()}[/] starts in {escape(str(folder))}", soft_wrap=True)

    def overview(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Print what runs where."""
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        for name, place, note in rows:
            line = (
                f"  [bold]{name:<{widths[0]}}[/]  {escape(f'{place:<{widths[1]}}')}  [dim]{escape(note)}[/]"
            )
            self._console.print(line, soft_wrap=True)

    def ready(self, seconds: float, url: str) -> None:
        """Print that the stack answers, and something to paste."""
        self._console.print(f"\n[bold green]Ready[/] in {seconds:.1f} s. In another terminal:\n")
        self._console.print(escape(_CURL.format(url=url)), soft_wrap=True)
        self._console.print("\nCtrl-C stops everything and keeps the data.")

    def event(self, text: str) -> None:
        """Print one line about something that happened."""
        self._console.print(f"[yellow]*[/] {escape(text)}", soft_wrap=True)

    def failure(self, text: str) -> None:
        """Print why the stack does not start."""
        self._errors.print(f"[bold red]posthouse:[/] {escape(text)}", soft_wrap=True)

    def stopping(self) -> None:
        """Print that the stop has begun."""
        self._console.print("Stopping: finishing what is in flight. Ctrl-C again to stop at once.")

    def stopped(self, forced: Sequence[str]) -> None:
        """Print that nothing runs any more, and what had to be forced."""
        names = ", ".join(forced)
        self._console.print(f"Stopped; had to end {names}." if names else "Stopped.")


def version() -> str:
    """Return the version that is installed."""
    return importlib.metadata.version("posthouse")
