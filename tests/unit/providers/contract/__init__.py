"""The contract every provider keeps: one table of cases, run over each of them on a real wire."""

import pytest

pytest.register_assert_rewrite("tests.unit.providers.contract.suite")
