# SPDX-License-Identifier: Apache-2.0
"""Execute any :class:`~commbench.collectives.schedule.Schedule` with torch.distributed sends and receives.

Everything that can be done before the clock starts is: the views of the memory, the temporaries that
reductions receive into and the order of posting are fixed when the executor is made. The timed loop posts,
waits and adds.

Two ways to put the same steps on the wire, by the backend's :attr:`~commbench.live.backend.Backend.tags`:

* with tags (gloo): each send and receive is tagged with its channel, so that the k-th send meets the k-th receive.
  Channels of one rank run in a thread each. One thread that polls is not possible: on gloo
  ``Work.is_completed()`` stays False until ``wait()`` returns (torch 2.13), and posting all channels in step
  order would make one wait for another.
* without (NCCL): one communicator runs one group at a time, so the channels are merged in step order and each
  merged step is one group. A schedule whose merged order would pair a send with the receive of another channel is
  refused.

Chunks without elements (fewer elements than chunks) are skipped, on both sides alike because both cut the
buffers by :meth:`Schedule.offsets <commbench.collectives.schedule.Schedule.offsets>`.

What a rank exchanges with itself is a copy, made when the later of the two records is posted, right after the step's
transfers are under way. Any moment between posting and the end of the step would do: a schedule that is right writes
no chunk that an operation in flight uses, except by additions, which wait for the end of the step; so what is copied
no longer changes, and nobody else uses the place that it lands in. What is to be added to goes through a temporary,
like anything that arrives.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import InputError
from commbench.live.backend import Backend, Post, Posting
from commbench.live.plan import require_ranks_only
from commbench.live.reductions import into

__all__ = ["PHASES", "ScheduleExecutor", "require_same_order"]

PHASES = ("post", "wait", "reduce")
_Reduce = Callable[[torch.Tensor, torch.Tensor], Any]


@dataclass(frozen=True, slots=True)
class _PostedStep:
    """A step of a channel: what to post together; (target, source) pairs to copy then, and to add at its end."""

    number: int
    transfers: list[Posting] = field(default_factory=list)
    copies: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    reductions: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)


class ScheduleExecutor:
    """Runs one rank's part of a schedule on one piece of memory, as often as asked.

    Args:
        schedule: for as many ranks as the group has, or as ``ranks`` names.
        memory: flat contiguous tensor of the schedule's ``num_buffers`` equal buffers, one behind the other.
        group: process group of the ranks. backend: of the group.
        ranks: the schedule's ranks by their numbers in the group; empty for all of it, in order.
        offsets: of every chunk of every buffer in the memory, where this rank holds some of them alone
            (:func:`commbench.live.check.own_part_of`); empty where buffers are whole.
        op: of its additions, one of ``reductions.BY_SCHEDULE``.

    Attributes:
        phases: seconds of the last :meth:`run` spent posting (and copying what a rank sends itself), waiting and
            reducing, summed over channels; empty where the host enqueues and does not see when what is done.

    Raises:
        InputError: the schedule needs switches that add, does not fit the memory, or needs tags that are not there.
    """

    def __init__(
        self,
        schedule: Schedule,
        memory: torch.Tensor,
        group: dist.ProcessGroup,
        backend: Backend,
        ranks: Sequence[int] = (),
        offsets: Sequence[int] = (),
        op: str = "sum",
    ) -> None:
        require_ranks_only(schedule)
        channels = _compile(schedule, dist.get_rank(group), memory, ranks, offsets)
        if not backend.tags:
            require_same_order(schedule, backend.name)
            channels = [_merge(channels)]
        runners = [
            _ChannelRunner(steps, schedule.window, lambda step: backend.bind(step.transfers, group), into(op))
            for steps in channels
        ]
        self._phases_are_real = not backend.streams
        self._own, self._others = runners[0], [_ChannelThread(runner) for runner in runners[1:]]
        self._runners = runners

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds of the last run by phase; with channels side by side the sum can exceed the run's time."""
        if not self._phases_are_real:
            return MappingProxyType({})
        return {name: sum(runner.phases[name] for runner in self._runners) for name in PHASES}

    def run(self) -> None:
        """Execute the schedule once; returns when this rank's part has ended (on GPUs: is enqueued)."""
        for other in self._others:
            other.start()
        self._own.run()
        for other in self._others:
            other.finish()

    def run_to_check(self) -> None:
        """Execute the schedule once; its result stands where the collective's postcondition looks for it."""
        self.run()

    def close(self) -> None:
        """End the channels' threads."""
        for other in self._others:
            other.close()


class _ChannelRunner:
    """Steps that run in order, at most ``window`` in flight."""

    def __init__(
        self, steps: Iterable[_PostedStep], window: int, bind: Callable[[_PostedStep], Post], reduce: _Reduce
    ) -> None:
        self._steps = [(step, bind(step)) for step in steps]
        self._window, self._reduce = window, reduce
        self.phases = dict.fromkeys(PHASES, 0.0)

    def run(self) -> None:
        in_flight: deque[tuple[_PostedStep, list[Any]]] = deque()
        self.phases = phases = dict.fromkeys(PHASES, 0.0)
        for step, post in self._steps:
            while in_flight and in_flight[0][0].number <= step.number - self._window:
                _finish(*in_flight.popleft(), phases, self._reduce)
            start = perf_counter()
            in_flight.append((step, post()))
            for target, source in step.copies:
                target.copy_(source)
            phases["post"] += perf_counter() - start
        while in_flight:
            _finish(*in_flight.popleft(), phases, self._reduce)


def _finish(step: _PostedStep, works: list[Any], phases: dict[str, float], reduce: _Reduce) -> None:
    """Wait for what a step posted, then do its additions."""
    start = perf_counter()
    for work in works:
        work.wait()
    waited = perf_counter()
    for view, arrived in step.reductions:
        reduce(view, arrived)
    phases["wait"] += waited - start
    phases["reduce"] += perf_counter() - waited


class _ChannelThread:
    """A channel in a thread of its own, kept between runs; an error in it is raised by :meth:`finish`."""

    def __init__(self, runner: _ChannelRunner) -> None:
        self._runner = runner
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._orders.get():
            try:
                self._runner.run()
            except BaseException as error:
                self._outcomes.put(error)
            else:
                self._outcomes.put(None)

    def start(self) -> None:
        self._orders.put(True)

    def finish(self) -> None:
        error = self._outcomes.get()
        if error is not None:
            raise error

    def close(self) -> None:
        self._orders.put(False)
        self._thread.join()


def _whole_buffers(schedule: Schedule, memory: torch.Tensor) -> list[int]:
    if memory.numel() % schedule.num_buffers:
        raise InputError(f"memory of {memory.numel()} elements is no {schedule.num_buffers} equal buffers")
    offsets: list[int] = schedule.offsets(memory.numel() // schedule.num_buffers).tolist()
    return offsets


def _compile(
    schedule: Schedule,
    group_rank: int,
    memory: torch.Tensor,
    ranks: Sequence[int] = (),
    offsets: Sequence[int] = (),
) -> list[list[_PostedStep]]:
    """The steps of each channel of this rank, with tensors in place of chunk numbers and ``ranks`` for peers."""
    ranks, offsets = ranks or range(schedule.num_ranks), offsets or _whole_buffers(schedule, memory)
    rank = ranks.index(group_rank)
    steps: dict[tuple[int, int], _PostedStep] = {}
    own: dict[tuple[int, bool], list[tuple[_PostedStep, torch.Tensor]]] = defaultdict(list)  # by channel and "sends"
    temporaries = _Temporaries(memory, schedule.window)
    for op in schedule.ops_of(rank):
        view = landing = memory[offsets[op.chunk] : offsets[op.chunk + op.count]]
        if not view.numel():
            continue
        step = steps.setdefault((op.channel, op.step), _PostedStep(op.step))
        if op.kind is Kind.REDUCE:
            landing = temporaries.get(op, len(step.reductions), view.numel())
            step.reductions.append((view, landing))
        sends = op.kind is Kind.SEND
        if op.peer == rank:
            own[op.channel, sends].append((step, landing))
        else:
            step.transfers.append(Posting(sends, landing, ranks[op.peer], op.channel))
    _pair_copies(own)
    return [[steps[key] for key in sorted(steps) if key[0] == channel] for channel in range(schedule.num_channels)]


def _pair_copies(own: Mapping[tuple[int, bool], list[tuple[_PostedStep, torch.Tensor]]]) -> None:
    """Turn what a rank exchanges with itself into copies: on each channel the k-th send meets the k-th receive."""
    for channel in {channel for channel, _ in own}:
        pairs = zip(own.get((channel, True), ()), own.get((channel, False), ()), strict=True)
        for (sending, source), (receiving, target) in pairs:
            later = max(sending, receiving, key=lambda step: step.number)
            later.copies.append((target, source))


class _Temporaries:
    """Memory that reductions receive into, shared by steps that are never in flight together."""

    def __init__(self, memory: torch.Tensor, window: int) -> None:
        self._memory = memory
        self._window = window
        self._blocks: dict[tuple[int, int, int], torch.Tensor] = {}

    def get(self, op: Op, index: int, num_elements: int) -> torch.Tensor:
        """A block for the ``index``-th addition of its step; steps ``window`` apart get the same one."""
        slot = (op.channel, op.step % self._window, index)
        block = self._blocks.get(slot)
        if block is None or block.numel() < num_elements:
            block = self._blocks[slot] = self._memory.new_empty(num_elements)
        return block[:num_elements]


def _merge(channels: list[list[_PostedStep]]) -> list[_PostedStep]:
    """One channel of all: steps with the same number become one, channels in order."""
    by_number: dict[int, list[_PostedStep]] = defaultdict(list)
    for steps in channels:
        for step in steps:
            by_number[step.number].append(step)
    return [
        _PostedStep(
            number,
            [transfer for step in steps for transfer in step.transfers],
            [copy for step in steps for copy in step.copies],
            [addition for step in steps for addition in step.reductions],
        )
        for number, steps in sorted(by_number.items())
    ]


def require_same_order(schedule: Schedule, backend: str) -> None:
    """Refuse a schedule whose sends and receives between two ranks pair up differently without tags.

    Raises:
        InputError: names the two ranks.
    """
    if schedule.num_channels == 1:
        return
    sent: dict[tuple[int, int], list[int]] = defaultdict(list)
    received: dict[tuple[int, int], list[int]] = defaultdict(list)
    for op in sorted(schedule, key=lambda op: (op.step, op.channel)):
        if op.rank == op.peer:
            continue  # a copy, paired before anything is merged
        side, pair = (sent, (op.rank, op.peer)) if op.kind is Kind.SEND else (received, (op.peer, op.rank))
        side[pair].append(op.channel)
    for pair, channels in sent.items():
        if channels != received[pair] and Counter(channels) == Counter(received[pair]):
            raise InputError(
                f"schedule {schedule.algorithm!r} cannot run on {backend}: channels meet in different orders at "
                f"ranks {pair[0]} and {pair[1]}, and {backend} has no tags; use gloo or one channel"
            )
