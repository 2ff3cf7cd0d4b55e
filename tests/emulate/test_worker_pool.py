# SPDX-License-Identifier: Apache-2.0
"""Processes that stay in a testbed for many runs: two runs by the same ones, two at once, and one that is killed."""

import os
import signal
import time
from pathlib import Path

import pytest

from commbench.emulate.testbed import Testbed
from commbench.emulate.worker_pool import Task, WorkerPool
from commbench.errors import RunError
from commbench.live.plan import Plan
from tests.emulate.fabrics import leftovers, namespaces, plan_of

pytestmark = [pytest.mark.root, pytest.mark.live]
pytest.importorskip("torch")


def plan(size: int, ranks: int = 2) -> Plan:
    return Plan(
        collective="all-reduce",
        ranks=ranks,
        sizes_bytes=(size,),
        out=Path("elsewhere.jsonl"),
        run=f"of {size}",
        backend="gloo",
        iters=2,
        warmup=1,
    )


def test_a_crew_runs_again_and_again_until_one_dies(tmp_path: Path) -> None:
    before = namespaces()
    fabric = plan_of({"kind": "star", "hosts": 4})
    with Testbed(fabric, folder=tmp_path) as testbed, WorkerPool(testbed, range(4)) as pool:
        pids = [pool.pid_of(rank) for rank in range(4)]
        [[small]] = pool.run([Task(plan(4096), (0, 1))], 60)
        [[large]] = pool.run([Task(plan(65536, 3), (0, 1, 3))], 60)
        assert [(r.ranks, r.size_bytes, r.wrong) for r in (small, large)] == [(2, 4096, 0), (3, 65536, 0)]
        both = pool.run([Task(plan(8192), (0, 1)), Task(plan(16384), (3, 2))], 60)
        assert [[r.size_bytes for r in records] for records in both] == [[8192], [16384]]
        assert [pool.pid_of(rank) for rank in range(4)] == pids  # nobody was started anew
        assert pids[2] is not None
        os.kill(pids[2], signal.SIGKILL)
        while pool.pid_of(2) is not None:  # its pipe is broken then, and the order stays in the buffer
            time.sleep(0.01)
        with pytest.raises(RunError, match="rank 2 of the testbed"):
            pool.run([Task(plan(4096), (1, 2))], 60)
    assert leftovers(tmp_path, before) == []
    assert not Path("elsewhere.jsonl").exists()
