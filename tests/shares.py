"""How the tests are shared out to the processes that run them (pytest-xdist)."""

from typing import Any

from xdist.scheduler.loadscope import LoadScopeScheduling


class Shares(LoadScopeScheduling):  # type: ignore[misc] # ships no types for it
    """Hands out unit tests by the file, others one by one, and all that share a stack to one process.

    Larger shares go first. The test a process died in is run once more by another: gRPC's core, which lives
    through hundreds of event loops in one process here and nowhere else, has been seen to crash. A test that
    kills its process twice has failed.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._died_in: set[str] = set()

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        for sharing in ("tests/e2e", "tests/chaos"):
            if file.startswith(f"{sharing}/"):
                return sharing
        return file if file.startswith("tests/unit/") else nodeid

    def remove_node(self, node: Any) -> str | None:
        """Give a dead process's tests to the others; return the one that failed by it, if any.

        The base class hands shares out again of which nothing is left, and their takers wait for ever.
        """
        failed = None
        died = False
        for share, tests in self.assigned_work.pop(node).items():
            left = {test: False for test, done in tests.items() if not done}
            if left and not died:
                died = True
                test = next(iter(left))
                if test in self._died_in:
                    failed = test
                    del left[test]
                self._died_in.add(test)
            if left:
                self.workqueue[share] = left
        for other in self.assigned_work:
            self._reschedule(other)
        return failed

    def _reschedule(self, node: Any) -> None:
        # One that has just replaced another says first what tests it has found.
        if node in self.registered_collections:
            super()._reschedule(node)
