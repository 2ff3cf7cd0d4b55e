# SPDX-License-Identifier: Apache-2.0
"""One plan: from options to a record."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from commbench.cluster import Cluster, make_cluster
from commbench.errors import InputError, unknown
from commbench.experiments.step_given import StepOptions, words_of
from commbench.experiments.step_library import library_of_step
from commbench.experiments.step_offload import offload_of, offload_words
from commbench.experiments.step_options import check_bounds, simulate_options, step_setting
from commbench.experiments.step_plan_of import step_costs
from commbench.planner.estimate import Estimated, Estimator
from commbench.planner.prices import Prices
from commbench.planner.search import Candidates, Cost, Say, best_of, candidates, silent
from commbench.planner.space import SCHEDULES, Space, strategies
from commbench.planner.strategy import AXES, Strategy
from commbench.results.plans import Forced, Planned, PlannedStep
from commbench.results.run_id import new_run_id
from commbench.routing.router import Router
from commbench.topology.fabric import Fabric
from commbench.topology.model import LinkKind
from commbench.units import format_bytes
from commbench.workload.offload import Offload
from commbench.workload.pipeline.registry import get_pipeline
from commbench.workload.step_plan import StepPlan

__all__ = ["OBJECTIVES", "Planner", "Wishes", "make_plan"]

OBJECTIVES = ("time", "tokens-per-gpu", "cost")
_TOKENS = 4 * 2**20  # of a step, where nobody says: as LLaMA 2 (arXiv 2307.09288) and GPT-3's larger half
_SHOWN = 8
_CHOSEN = (*AXES, "ranks", "layers")  # what a strategy says
_UNFIT = ("layers", "rank_order", "scenario", "jitter", "unfolded", "zero_group")  # a plan chooses the first two


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What of a plan is not of a step.

    Attributes:
        objective: one of OBJECTIVES. price: of a GPU-hour. gap: to be proven, as a share.
        seconds: after which no other simulation begins. schedules: pipeline schedules to choose from.

    Raises:
        InputError: an unknown objective or schedule, a cost without a price, a gap or time below 0.
    """

    objective: str = "time"
    price: float | None = None
    gap: float = 0.02
    seconds: float = 10.0
    schedules: tuple[str, ...] = SCHEDULES

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"--objective {self.objective!r} {unknown(self.objective, OBJECTIVES)}")
        if self.objective == "cost" and self.price is None:
            raise InputError("--objective cost needs --price, what a GPU costs in an hour, such as --price 2.5")
        for name in ("price", "gap", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e9:
                raise InputError(f"--{name} {value:g}: must be 0 or more")
        for name in self.schedules:
            get_pipeline(name)


def make_plan(given: Mapping[str, Any], wishes: Wishes, say: Say = silent) -> Planned:
    """Find the best strategy.

    Args:
        given: options of ``sim train`` by name, as far as they are given; those of ``strategy.AXES`` are kept.
        wishes: the rest. say: is told how far the search is.

    Raises:
        InputError: an option that is missing, wrong or allows no strategy.
    """
    return Planner(given, wishes, say).plan()


_ONE: Mapping[str, Any] = {
    "tp": 1, "cp": 1, "ep": 1, "dp": 1, "pp": 1, "ranks": 1, "microbatch": 1, "global_batch": 1, "schedule": "1f1b",
    "stages_per_rank": None, "recompute": "none", "zero": 0, "sequence_parallel": False,
}  # fmt: skip


class Planner:
    """What a search needs, and the record of what it finds.

    Attributes:
        cluster: where. strategies: all that there are. estimator: of them. capacity_bytes: of a device.

    Raises:
        InputError: see make_plan.
    """

    def __init__(self, given: Mapping[str, Any], wishes: Wishes, say: Say = silent) -> None:
        self._began, self._wishes, self._say = time.perf_counter(), wishes, say
        for name in _UNFIT:
            if name in given:
                raise InputError(f"--{name.replace('_', '-')}: a plan takes none; give it to `commbench sim train`")
        self._fixed = {axis: given[axis] for axis in AXES if axis in given}
        if given.get("scatter_gather"):  # each tensor rank has the whole output
            self._fixed.setdefault("sequence_parallel", False)
        options = StepOptions(**given)
        check_bounds(options)
        self._setting = setting = step_setting(replace(options, **_ONE))
        base, self._notes = setting.plan, [*setting.plan.remarks]
        if options.global_batch is None:
            batch = max(1, _TOKENS // base.model.sequence)
            options = replace(options, global_batch=batch)
            self._notes.insert(0, f"assumed: --global-batch {batch}, {batch * base.model.sequence:,} tokens a step")
        ranks = setting.cluster.fabric.num_ranks if options.ranks is None else options.ranks
        self._options, self._batch = options, options.global_batch or 1
        self._offload = offload_of(options, setting.cluster.fabric, ranks)  # over links that all of them share
        alone = offload_words(options, base.offload)
        self._notes = [note for note in self._notes if note not in alone] + [*offload_words(options, self._offload)]
        self.strategies = strategies(
            Space(
                model=base.model, run=base.run, ranks=ranks, host=_host(setting.cluster.fabric),
                global_batch=self._batch, fixed=self._fixed, schedules=wishes.schedules,
                fewer=wishes.objective != "time",
            )
        )  # fmt: skip
        whole = options.stale_gradients or options.gradient_ratio < 1
        if options.overlap_gradients is False or whole:  # ZeRO 2 and 3 send each microbatch's beside what follows
            self.strategies = [one for one in self.strategies if one.zero < 2]
        self.strategies = [one for one in self.strategies if _moves(one, base.offload)]
        if not self.strategies and base.offload is not None and not whole:
            raise InputError(f"--offload {options.offload}: goes with --zero 1 to 3 (optimizer), 1f1b (activations)")
        if not self.strategies:
            option = "--stale-gradients or --gradient-ratio" if whole else "--no-overlap-gradients"
            raise InputError(f"{option}: goes with --zero 0 or 1")
        self.cluster = make_cluster(
            setting.cluster.fabric, num_ranks=ranks, placement=options.placement, routing=options.routing,
            seed=options.seed,
        )  # fmt: skip
        self.capacity_bytes = base.device.memory_bytes
        self.estimator = Estimator(self._base, *self._prices(self.cluster), setting.margin_bytes)

    @property
    def _base(self) -> StepPlan:
        """A plan of the model, with a slowdown that was given instead of the stack's."""
        base = replace(self._setting.plan, offload=self._offload)
        if base.stack is None or self._options.slowdown is None:
            return base
        return replace(base, stack=replace(base.stack, hidden_data=0.0, hidden_sharded=0.0, hidden_tensor=0.0))

    def _prices(self, cluster: Cluster) -> tuple[Prices, Prices]:
        """Of a fabric, and the same under ZeRO 3."""
        base, options = self._base, self._options
        costs, sharding = step_costs(options), replace(
            base, zero=3, overlap_gradients=True, gradient_ratio=1.0, stale_gradients=False
        )
        plain, sharded = (
            Prices(cluster, library_of_step(options, plan, cluster, costs)[0])
            for plan in (replace(base, zero=0), sharding)
        )
        same = base.stack is None or base.stack.sharded_share == 1.0
        return plain, plain if same else sharded

    @property
    def _cost(self) -> Cost:
        """What a second of a strategy's step costs."""
        return (lambda one: 1.0) if self._wishes.objective == "time" else (lambda one: float(one.ranks))

    def plan(self) -> Planned:
        """Search, simulate, and say what was found."""
        wishes, base, cost = self._wishes, self._setting.plan, self._cost
        left = candidates(self.strategies, self.estimator, self.capacity_bytes, cost, say=self._say)
        search_s = time.perf_counter() - self._began
        found = best_of(left, self._simulated_s, cost, gap=wishes.gap, seconds=wishes.seconds, say=self._say)
        known = {id(one.estimated): one.time_s for one in found.simulated if one.time_s is not None}
        problems = [one for one in found.simulated if one.problem]
        tight = {id(one.estimated) for one in found.simulated if one.time_s is None and not one.problem}
        if left.untimed:
            self._notes.append(f"{left.untimed:,} strategies more are left out, whose time nobody knows: {left.why}")
        notes = [*self._notes, *(f"not simulated: {one.estimated.strategy.words}: {one.problem}" for one in problems)]
        ordered = sorted(
            (one for one in left.estimated if id(one) not in tight),
            key=lambda one: (id(one) not in known, known.get(id(one), one.time_s) * cost(one.strategy)),
        )
        return Planned(
            run=new_run_id(), model=base.model.name, topology=self.cluster.fabric.name, device=base.device.name,
            dtype=base.dtype, ranks=len(self.cluster.placed), global_batch=self._batch, sequence=base.run.sequence,
            objective=wishes.objective, price=wishes.price, fixed=self._fixed, settings=self._settings(),
            strategies=left.strategies - left.untimed, slow=left.slow, large=left.large + len(tight),
            estimated=len(ordered), simulated=len(known), gap=wishes.gap,
            proven_gap=found.proven_gap if known else None, open=found.open,
            worst_error=found.worst_error, capacity_bytes=self.capacity_bytes, margin_bytes=self._setting.margin_bytes,
            best=tuple(self._step(one, known.get(id(one)), why=True) for one in ordered[:_SHOWN]),
            pareto=tuple(self._step(one, known.get(id(one))) for one in _pareto(ordered, cost)),
            sensitivity=tuple(self._sensitivity(left)), notes=tuple(notes), search_s=search_s,
            nearest=None if left.nearest is None else self._step(self.estimator.estimate(left.nearest[0]), None),
            lacks_bytes=0 if left.nearest is None else left.nearest[1] - self.capacity_bytes,
            remedy=self._remedy(left), asked=words_of(self._options, without=_CHOSEN),
            wall_s=time.perf_counter() - self._began,
        )  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        """Options that are not as they are by default, those apart that the record names anyway."""
        plain = StepOptions()
        named = {"model", "topology", "ranks", "global_batch", *self._fixed}
        found = {one.name: getattr(self._options, one.name) for one in fields(StepOptions) if one.name not in named}
        changed = {name: value for name, value in found.items() if value != getattr(plain, name)}
        return changed | ({} if self._wishes.schedules == SCHEDULES else {"schedules": list(self._wishes.schedules)})

    def _simulated_s(self, strategy: Strategy) -> float | None:
        """Seconds of the step, exactly; None where it does not fit after all.

        Raises:
            InputError: it is too large to simulate.
        """
        record = simulate_options(replace(self._options, **strategy.options), self.cluster.fabric)
        return record.iteration_s if record.fits else None

    def _step(self, one: Estimated, simulated_s: float | None, *, why: bool = False) -> PlannedStep:
        strategy, wishes = one.strategy, self._wishes
        time_s = one.time_s if simulated_s is None else simulated_s
        tokens = self._batch * self._setting.plan.run.sequence
        rate = tokens / time_s / strategy.ranks
        return PlannedStep(
            words=strategy.words, how=strategy.how, command=strategy.command, options=strategy.options,
            ranks=strategy.ranks, estimated_s=one.time_s, bound_s=one.bound_s, simulated_s=simulated_s,
            memory_bytes=one.memory_bytes, tokens_per_s_per_gpu=rate,
            terms=self.estimator.terms(strategy) if why else {},
            cost=None if wishes.price is None else wishes.price / 3600 / rate * 1e6,
        )  # fmt: skip

    def _remedy(self, left: Candidates) -> str:
        """What would make something fit, where nothing does."""
        if left.nearest is None:
            return ""
        strategy, needs = left.nearest
        words = [f"devices with {format_bytes(needs)} or more"]
        if self._fixed:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in self._fixed)
            words.insert(0, f"leave {given} open")
        if strategy.dp * strategy.cp * strategy.tp * strategy.pp >= len(self.cluster.placed) // 2:
            words.insert(0, "take more GPUs")
        if self._options.dtype != "fp8" and self._options.precision == "megatron-bf16":
            words.append("--precision mixed-adam, which keeps gradients in 2 bytes")
        return "; or ".join(words)

    def _sensitivity(self, left: Candidates) -> list[Forced]:
        """The best with each axis forced, and on networks of other speed."""
        if not left.estimated:
            return []
        cost, first = self._cost, left.estimated[0]
        best, found = first.time_s * cost(first.strategy), list[Forced]()
        for factor, words in ((2.0, "network twice as fast"), (0.5, "network half as fast")):
            if self.cluster.fabric.num_hosts > 1:
                one = self._best_on(factor, left)
                change = one.time_s * cost(one.strategy) / best - 1
                found.append(Forced(what=words, words=_told(one.strategy), change=change))
        for axis in ("tp", "pp", "cp", "ep", "schedule", "recompute", "zero", "microbatch"):
            if axis in self._fixed:
                continue
            values = {getattr(one.strategy, axis) for one in left.estimated}
            for value in sorted(values - {getattr(first.strategy, axis)}):
                one = next(one for one in left.estimated if getattr(one.strategy, axis) == value)
                change = one.time_s * cost(one.strategy) / best - 1
                found.append(Forced(what=f"{axis} {value}", words=_told(one.strategy), change=change))
        return found


    def _best_on(self, factor: float, left: Candidates) -> Estimated:
        """The best on a network so many times as fast.

        What is estimated here has a time there, and nothing takes less there than its lower bound here, were all of it
        communication: by these most of what cannot be the best there is known without a look at it.
        """
        cost, estimator = self._cost, self.estimator.priced(*self._prices(_faster(self.cluster, factor)))
        likely = [estimator.estimate(one.strategy) for one in left.estimated[:_SHOWN]]
        most = min(one.time_s * cost(one.strategy) for one in likely)
        near = np.flatnonzero(left.bounds * min(1, 1 / factor) <= most).tolist()
        return candidates(
            [self.strategies[number] for number in near], estimator, self.capacity_bytes, cost, worth=1.0, say=self._say
        ).estimated[0]


def _moves(one: Strategy, offload: Offload | None) -> bool:
    """Whether what is to lie in host memory can, with a strategy."""
    if offload is None:
        return True
    splits = offload.activations and get_pipeline(one.schedule).splits
    return not splits and (not offload.optimizer or one.zero > 0 or one.dp * one.cp == 1)


def _host(fabric: Fabric) -> int:
    """GPUs of a host."""
    return max(1, fabric.num_ranks // max(1, fabric.num_hosts))


def _told(one: Strategy) -> str:
    return f"{one.words} {one.how}"


def _faster(cluster: Cluster, factor: float) -> Cluster:
    """The same with other bandwidths of the network between hosts, and of what leads to it inside them."""
    fabric = cluster.fabric
    kinds = list(LinkKind)
    slow = np.isin(fabric.link_kinds, [kinds.index(kind) for kind in (LinkKind.NETWORK, LinkKind.PCIE)])
    other = replace(fabric, bandwidths=np.where(slow, fabric.bandwidths * factor, fabric.bandwidths))
    router = Router(other, cluster.router.policy.name, cluster.router.seed)
    return replace(cluster, fabric=other, router=router)


def _pareto(of: Sequence[Estimated], cost: Cost) -> list[Estimated]:
    """Those that no other beats in both objective and memory, best first."""
    found, least = list[Estimated](), float("inf")
    for one in sorted(of, key=lambda one: (one.time_s * cost(one.strategy), one.memory_bytes)):
        if one.memory_bytes < least:
            found.append(one)
            least = one.memory_bytes
    return found
