# SPDX-License-Identifier: Apache-2.0
"""A testbed that is there while its ``with`` block runs, and gone after it, however the block ends."""

import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from commbench.emulate.kernel import Kernel, PortShaping, names_of
from commbench.emulate.namespace import NAMESPACES
from commbench.emulate.plan import Pair, TestbedPlan
from commbench.emulate.state import TestbedState, process, remove, state_folder, write
from commbench.emulate.watch import BackgroundFlow
from commbench.errors import InputError, RunError
from commbench.live.ending import undisturbed
from commbench.live.rank_host import RankHost
from commbench.live.start import module_command

__all__ = ["LinkCounters", "Testbed"]


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What has left by one port for one pair of NICs.

    Attributes:
        src, dst: nodes of the link. pair: names of the sending and the receiving NIC.
        plane: 0 for the ranks' traffic, else the number of a background flow.
        num_bytes, packets: Ethernet headers counted.
    """

    src: str
    dst: str
    pair: tuple[str, str]
    plane: int
    num_bytes: int
    packets: int


class Testbed:
    """Namespaces, links and routes as a plan says, made on entry and taken away on exit.

    Args:
        plan: from :func:`~commbench.emulate.plan.plan_testbed`.
        shaping: of TCP and the queues.
        seed: of the hash that spreads flows over routes of equal cost (where the kernel takes one).
        realtime: whether ranks take real-time priority where they may.
        folder: where the testbed is put on record.

    Raises:
        RunError: on entry: the kernel refused. What had been made by then is gone again.
    """

    def __init__(
        self,
        plan: TestbedPlan,
        *,
        shaping: PortShaping | None = None,
        seed: int = 1,
        realtime: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.plan = plan
        self.shaping = shaping or PortShaping()
        self.seed = seed
        self.realtime = realtime
        self.name = f"cb{secrets.token_hex(3)}"
        self._folder = folder or state_folder()
        self._names = names_of(self.name, plan)
        self._kernel = Kernel(plan, self._names, self.shaping, seed)
        self._state = TestbedState(
            lab=self.name,
            owner=process(os.getpid(), "commbench"),
            namespaces=tuple(self._names.values()),
            interfaces={self._names[p.name]: tuple(i.interface for i in plan.ports_of(p.name)) for p in plan.places},
        )
        self._flows: list[BackgroundFlow] = []

    def __enter__(self) -> "Testbed":
        try:
            write(self._state, self._folder)
            self._kernel.make()
        except BaseException:
            self._take_away()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_away()

    def _take_away(self) -> None:
        with undisturbed():
            for flow in self._flows:
                flow.process.kill()
                flow.process.wait()
            remove(self._state, self._folder)

    def note_processes(self, pids: Sequence[int], what: str) -> None:
        """Put processes on record that run for the testbed."""
        self._state = self._state.with_processes(process(pid, what) for pid in pids)
        write(self._state, self._folder)

    def rank_hosts(self, ranks: Sequence[int], variables: Mapping[str, str] | None = None) -> list[RankHost]:
        """Where the ranks of a job run: rank i of the job on the host of rank ``ranks[i]`` of the topology.

        Gloo is given the host's NICs as its interfaces; with several it takes them in turn, one for each collective or
        (with schedules) channel.
        """
        return [self._rank_host(self.plan.host_of_rank(rank), variables or {}) for rank in ranks]

    def _rank_host(self, place: str, variables: Mapping[str, str]) -> RankHost:
        interfaces = ",".join(port.interface for port in self.plan.ports_of(place))
        return RankHost(
            network=str(NAMESPACES / self._names[place]),
            realtime=self.realtime,
            variables={"GLOO_SOCKET_IFNAME": interfaces, **variables},
        )

    def set_factor(self, src: str, dst: str, factor: float) -> None:
        """Let the link from ``src`` to ``dst`` have ``factor`` of its rate; at 0 it loses all that comes.

        Raises:
            InputError: there is no such link, or the factor is below 0. RunError: the kernel refused.
        """
        if factor < 0:
            raise InputError(f"factor {factor:g} of link {src} -> {dst} must be 0 or above")
        port = self.plan.port(src, dst)
        if factor:
            self._kernel.set_rate(port, port.rate * factor)
            self._kernel.restore(port)
        else:
            self._kernel.take_down(port)

    def start_flow(self, src: int, dst: int, num_bytes: int, plane: int) -> subprocess.Popen[str]:
        """Start a background flow between the hosts of two ranks, over their first NICs.

        Args:
            src, dst: ranks of the topology. num_bytes: 0 goes on until the testbed ends.
            plane: number of the flow, from 1 up to the plan's number of background flows.

        Raises:
            InputError: src is dst. RunError: the flow does not come about.
        """
        if src == dst:
            raise InputError(f"a background flow from rank {src} to itself crosses no link")
        assert 0 < plane < self.plan.planes
        places = [self.plan.host_of_rank(rank) for rank in (src, dst)]
        ends = [self._names[place] for place in places]
        address = self.plan.ports_of(places[1])[0].address
        command = module_command("commbench.emulate.flow", *ends, address, str(4 * plane), str(num_bytes))
        flow = subprocess.Popen(
            command,
            env=os.environ | {"COMMBENCH_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        what = f"background flow {src}:{dst}"
        self._flows.append(BackgroundFlow(flow, what, num_bytes))
        self.note_processes([flow.pid], what)
        assert flow.stdout is not None
        said = flow.stdout.readline().strip()
        if said != "connected":
            raise RunError(f"{what} does not come about: {said or f'exit code {flow.wait()}'}")
        return flow

    def require_flows(self) -> None:
        """Make sure that all background flows go on, or have sent all that they were to send.

        Raises:
            RunError: one has ended early or stands still; names it, how and when.
        """
        for flow in self._flows:
            if trouble := flow.trouble:
                raise RunError(trouble)

    def link_counters(self) -> list[LinkCounters]:
        """What has crossed every link so far, by the pair of NICs it was for; also tells what path ECMP chose."""
        return [
            LinkCounters(port.node, port.peer, self._named(pair), plane, num_bytes, packets)
            for port, classes in self._kernel.counted().items()
            for (pair, plane), (num_bytes, packets) in classes.items()
        ]

    def _named(self, pair: Pair) -> tuple[str, str]:
        return self.plan.nics[pair[0]], self.plan.nics[pair[1]]

    def dropped(self) -> dict[tuple[str, str], int]:
        """Packets lost for want of room by link (src, dst); empty as long as the queues do what they are for."""
        return {(port.node, port.peer): count for port, count in self._kernel.dropped().items() if count}

    def describe(self) -> dict[str, Any]:
        """The fabric for the environment of a record, in JSON values."""
        rates = sorted({round(port.rate) for port in self.plan.ports})
        return {
            "provenance": "emulated",
            "topology": self.plan.topology.name,
            "origin": self.plan.topology.origin,
            "routing": self.plan.routing,
            "hash_seed": self.seed,
            "scale": self.plan.scale,
            "link_rates_bytes_per_s": rates,
            "total_rate_bytes_per_s": round(self.plan.total_rate),
            "mtu": self.plan.mtu,
            "latency": "not emulated: that of the machine's own scheduling and forwarding",
            "shaping": asdict(self.shaping),
        }
