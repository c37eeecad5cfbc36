"""How the tests are shared out to the processes that run them (pytest-xdist)."""

from xdist.scheduler.loadscope import LoadScopeScheduling


class Shares(LoadScopeScheduling):  # type: ignore[misc] # ships no types for it
    """Hands out unit tests by the file, others one by one, and all that share a stack to one process.

    Larger shares go first.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        for sharing in ("tests/e2e", "tests/chaos"):
            if file.startswith(f"{sharing}/"):
                return sharing
        return file if file.startswith("tests/unit/") else nodeid
