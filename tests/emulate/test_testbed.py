# SPDX-License-Identifier: Apache-2.0
"""Labs in the kernel: made, shaped, counted, broken and gone again. Flows between two hosts stand in for ranks here."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commbench.emulate import clock, kernel, namespace, privilege
from commbench.emulate.plan import TestbedPlan
from commbench.emulate.preflight import measure_capacity
from commbench.emulate.state import clean, list_testbeds
from commbench.emulate.testbed import LinkCounters, Testbed
from commbench.errors import InputError, RunError
from tests.emulate.fabrics import FAT_TREE, MBIT, leaf_spine, leftovers, namespaces, plan_of

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
KIB = 2**10


@contextmanager
def lab_of(plan: TestbedPlan, folder: Path) -> Iterator[Testbed]:
    """A testbed that must leave nothing behind."""
    before = namespaces()
    try:
        with Testbed(plan, folder=folder) as testbed:
            assert {place.name for place in plan.places} == {n.partition("-")[2] for n in namespaces() - before}
            yield testbed
    finally:
        assert leftovers(folder, before) == []


def sent(testbed: Testbed, src: int, dst: int, num_bytes: int, plane: int) -> float:
    """Seconds that a flow takes once it is connected: no process's own start is in it."""
    flow = testbed.start_flow(src, dst, num_bytes, plane)
    start = time.monotonic()
    assert flow.stdout is not None
    assert flow.stdout.readline().strip() == str(num_bytes)
    return time.monotonic() - start


def by_link(testbed: Testbed, plane: int) -> dict[tuple[str, str], LinkCounters]:
    return {(part.src, part.dst): part for part in testbed.link_counters() if part.plane == plane}


def test_a_flow_crosses_the_links_of_its_route_and_no_other(tmp_path: Path) -> None:
    """Data on 4 links, acknowledgements on 4 others on the way back; each under its own pair."""
    plan = plan_of(leaf_spine(4, spines=2), num_background=1)
    with lab_of(plan, tmp_path) as testbed:
        sent(testbed, 0, 3, 256 * KIB, 1)
        found = by_link(testbed, 1)
        # h3 is destination 3: spine 3 % 2 for what goes to it, spine 0 for what comes back to h0
        there = [("h0/nic0", "leaf0"), ("leaf0", "spine1"), ("spine1", "leaf1"), ("leaf1", "h3/nic0")]
        back = [("h3/nic0", "leaf1"), ("leaf1", "spine0"), ("spine0", "leaf0"), ("leaf0", "h0/nic0")]
        assert found.keys() == {*there, *back}
        assert {found[link].pair for link in there} == {("h0/nic0", "h3/nic0")}
        assert {found[link].pair for link in back} == {("h3/nic0", "h0/nic0")}
        for link in there:  # 1448 bytes of payload in a frame of 1514, and a few packets without
            packets = found[link].packets
            assert 256 * KIB // 1448 <= packets <= 256 * KIB // 1448 + 8
            assert 0 <= found[link].num_bytes - 66 * packets - 256 * KIB <= 64  # longer options in some, as of the SYN
        assert testbed.dropped() == {}


@pytest.mark.measured
def test_ecmp_takes_one_of_the_ways_and_the_lab_tells_which(tmp_path: Path) -> None:
    """Flows differ in their ports, so of several some go by either spine; none is split."""
    plan = plan_of(leaf_spine(4, spines=2), ecmp=True, num_background=8)
    with lab_of(plan, tmp_path) as testbed:
        ways = set()
        for plane in range(1, 9):
            sent(testbed, 0, 3, 8 * KIB, plane)
            taken = [spine for spine in ("spine0", "spine1") if ("leaf0", spine) in by_link(testbed, plane)]
            assert len(taken) == 1
            ways |= set(taken)
        assert ways == {"spine0", "spine1"}  # all eight alike: 1 in 128


@pytest.mark.measured
def test_two_flows_share_a_trunk_equally_whatever_they_come_from(tmp_path: Path) -> None:
    """Two endless flows over one trunk of the hosts' rate: each gets half of it, within 3 %, and the trunk is full."""
    plan = plan_of(leaf_spine(4, oversubscription=2.0), host="10 Mbit/s", num_background=2)
    with lab_of(plan, tmp_path) as testbed:
        for plane, (src, dst) in enumerate([(0, 2), (1, 3)], 1):
            testbed.start_flow(src, dst, 0, plane)
        time.sleep(0.5)
        start, first = time.monotonic(), testbed.link_counters()
        time.sleep(1.5)
        elapsed, second = time.monotonic() - start, testbed.link_counters()
        trunk = [
            {p.plane: p.num_bytes for p in seen if (p.src, p.dst) == ("leaf0", "spine0") and p.plane}
            for seen in (first, second)
        ]
        rates = [(trunk[1][plane] - trunk[0][plane]) / elapsed for plane in (1, 2)]
        assert rates[0] / rates[1] == pytest.approx(1, rel=0.03)
        assert sum(rates) == pytest.approx(10 * MBIT, rel=0.05)


@pytest.mark.measured
def test_a_link_slowed_cut_and_mended(tmp_path: Path) -> None:
    """The same bytes take ten times as long at a tenth of the rate, do not arrive while it is cut, and do after."""
    plan = plan_of({"kind": "star", "hosts": 2}, num_background=4)
    with lab_of(plan, tmp_path) as testbed:
        whole = sent(testbed, 0, 1, 512 * KIB, 1)
        testbed.set_factor("h0/nic0", "leaf0", 0.1)
        slow = sent(testbed, 0, 1, 512 * KIB, 2)
        assert slow / whole == pytest.approx(10, rel=0.35)
        testbed.set_factor("h0/nic0", "leaf0", 1.0)
        flow = testbed.start_flow(0, 1, 0, 3)
        testbed.set_factor("h0/nic0", "leaf0", 0.0)
        testbed.set_factor("h0/nic0", "leaf0", 0.0)  # cutting twice is cutting once
        time.sleep(0.3)
        still = by_link(testbed, 3)["leaf0", "h1/nic0"].num_bytes
        time.sleep(0.2)
        assert by_link(testbed, 3)["leaf0", "h1/nic0"].num_bytes == still
        flow.kill()
        testbed.set_factor("h0/nic0", "leaf0", 1.0)
        sent(testbed, 0, 1, 8 * KIB, 4)
        with pytest.raises(InputError, match="no link leaf0 -> h7/nic0"):
            testbed.set_factor("leaf0", "h7/nic0", 0.5)
        with pytest.raises(InputError, match="must be 0 or above"):
            testbed.set_factor("h0/nic0", "leaf0", -1.0)


def test_a_fat_tree_is_made_whole(tmp_path: Path) -> None:
    """16 hosts, 20 switches, 48 links; hosts of different pods reach each other over 6 of them, and know no others."""
    plan = plan_of(FAT_TREE)
    assert (len(plan.places), len(plan.cables)) == (36, 48)
    with lab_of(plan, tmp_path) as testbed:
        listener, sender = (namespace.inside(f"{testbed.name}-{place}", socket.socket) for place in ("h15", "h0"))
        with listener, sender:
            listener.bind(("10.64.0.16", 0))
            listener.listen()
            sender.connect(listener.getsockname())
            assert sender.getsockname()[0] == "10.64.0.1"
        assert len([part for part in testbed.link_counters() if part.pair == ("h0/nic0", "h15/nic0")]) == 6


def test_settings_of_hosts_and_switches(tmp_path: Path) -> None:
    def of(testbed: Testbed, place: str, setting: str) -> str:
        read = Path("/proc/sys/net/ipv4", setting).read_text
        return namespace.inside(f"{testbed.name}-{place}", lambda: read().strip())

    with lab_of(plan_of(leaf_spine(4)), tmp_path) as testbed:
        assert [of(testbed, place, "ip_forward") for place in ("h0", "leaf0", "spine0")] == ["0", "1", "1"]
        assert {of(testbed, place, "fib_multipath_hash_policy") for place in ("leaf0", "spine0")} == {"1"}
        assert of(testbed, "h0", "tcp_congestion_control") == "reno"
        assert namespace.inside(f"{testbed.name}-h0", socket.if_nameindex) == [(1, "lo"), (2, "nic0")]


def test_what_was_made_before_a_failure_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def refuse(*arguments: object) -> None:
        made.append(arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel.Kernel, "_shape", refuse)
    before = namespaces()
    with (
        pytest.raises(RunError, match=r"the testbed cannot be made: .*No space left"),
        Testbed(plan_of(leaf_spine(4)), folder=tmp_path),
    ):
        pass
    assert made
    assert leftovers(tmp_path, before) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from commbench.emulate.testbed import Testbed
from tests.emulate.fabrics import leaf_spine, plan_of
with Testbed(plan_of(leaf_spine(4), num_background=1), folder=Path(sys.argv[1])) as testbed:
    flow = testbed.start_flow(0, 3, 0, 1)
    print(flow.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_clean_after_the_owner_was_killed(tmp_path: Path) -> None:
    """The background flow dies with its owner; namespaces and record stay until they are cleaned away."""
    before = namespaces()
    script = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (state,) = list_testbeds(tmp_path)
    assert set(state.namespaces) == namespaces() - before
    assert int(done.stdout) in {p.pid for p in state.processes}
    # a process that nobody could put on record: it entered a namespace by itself
    stray = subprocess.Popen(["ip", "netns", "exec", state.namespaces[0], "sleep", "60"])
    while Path(f"/proc/{stray.pid}/comm").read_text() != "sleep\n":
        time.sleep(0.01)
    said: list[str] = []
    assert clean(tmp_path, said.append) == 1
    assert said == [f"{state.lab}: {len(state.namespaces)} namespaces removed, 1 processes ended"]
    assert stray.wait(5) == -signal.SIGKILL
    assert leftovers(tmp_path, before) == []
    assert not any(p.alive for p in state.processes)
    assert clean(tmp_path, said.append) == 0


def test_a_flow_that_cannot_be(tmp_path: Path) -> None:
    plan = plan_of({"kind": "star", "hosts": 2}, num_background=1)
    with lab_of(plan, tmp_path) as testbed, pytest.raises(InputError, match="from rank 1 to itself"):
        testbed.start_flow(1, 1, 0, 1)


def test_the_machine_carries_something(tmp_path: Path) -> None:
    """Jumbo frames cost fewer packets, so more bytes are carried: what is measured is the machine, not a constant."""
    before = namespaces()
    small, large = (measure_capacity(mtu, folder=tmp_path) for mtu in (1500, 9000))
    assert small.flows == small.cores or small.flows == 8
    assert 50 * MBIT < small.bytes_per_s < large.bytes_per_s
    assert leftovers(tmp_path, before) == []


UNPRIVILEGED = """
import ctypes, os, sys
from pathlib import Path
import pyroute2, commbench.emulate.testbed, commbench.emulate.privilege as privilege  # while this user may
from pyroute2.netlink.rtnl.tcmsg import sched_htb, sched_bpf
from commbench.emulate.testbed import Testbed
from commbench.emulate.namespace import NAMESPACES
from tests.emulate.fabrics import leaf_spine, plan_of
plan = plan_of(leaf_spine(4))
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: a process that changed its user has lost its own /proc
assert "SYS_ADMIN" in privilege.missing(), privilege.missing()
try:
    privilege.gain()
except commbench.emulate.testbed.RunError as error:
    print("refused:", error)
    sys.exit(0)
with Testbed(plan) as testbed:
    print("made", len(os.listdir(NAMESPACES)), privilege.missing())
print("left", len(os.listdir(NAMESPACES)))
"""


def test_a_user_without_rights_has_a_lab_of_his_own_or_is_told_why_not() -> None:
    before = namespaces()
    script = [sys.executable, "-c", UNPRIVILEGED]
    single = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # a process with threads may not change its user namespace
    done = subprocess.run(script, cwd=ROOT, env=single, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("refused:"):
        assert "needs the capabilities SYS_ADMIN and NET_ADMIN" in done.stdout
        pytest.skip(f"this system lets no user have a user namespace: {done.stdout}")
    assert done.stdout == "made 7 \nleft 0\n"
    assert namespaces() == before


def test_root_lacks_nothing() -> None:
    assert os.geteuid() == 0
    assert privilege.missing() == ""


@pytest.mark.measured
def test_a_slow_rank_has_its_share_of_the_processor_and_no_more() -> None:
    """A process that would take a whole processor gets a fifth of the time, until it runs freely again."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        throttle = clock.Throttle(busy.pid, 0.2)
        time.sleep(0.2)
        start, before = time.monotonic(), used_s(busy.pid)
        time.sleep(0.8)
        share = (used_s(busy.pid) - before) / (time.monotonic() - start)
        throttle.close()
        assert 0 < share < 0.3
        assert Path(f"/proc/{busy.pid}/stat").read_text().rpartition(")")[2].split()[0] in "RS"
    finally:
        busy.kill()
        busy.wait()


def used_s(pid: int) -> float:
    """Processor time of a process; proc(5), /proc/pid/stat, utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
