"""A lease ends on a clock that goes on while the machine sleeps."""

import time

import pytest

from services.dispatch.leases import Lease, lease_time


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no such clock")
def test_a_lease_ends_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(["box"], 1)
    lease.begin(["box"], ends_at=lease_time() + 30.0)
    assert lease.holds
    awake, slept = time.clock_gettime, 3600.0
    # The monotonic clock stands still meanwhile.
    monkeypatch.setattr(
        time, "clock_gettime", lambda clock: awake(clock) + slept * (clock == time.CLOCK_BOOTTIME)
    )
    assert not lease.holds
