"""Fixtures of the end-to-end tests: a stack for those that do it no harm, and one for the others."""

from collections.abc import Iterator

import pytest

from tests.e2e.stack import E2eStack, running_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[E2eStack]:
    """The stack of the session; leave it as healthy as it was."""
    with running_stack() as running:
        yield running


@pytest.fixture(scope="session")
def own_stack() -> Iterator[E2eStack]:
    """The stack that tests may hurt, one after the other, as long as it runs when they are done."""
    with running_stack({"POSTHOUSE_OUTBOX_REPUBLISH_AFTER": "2"}) as running:
        yield running
