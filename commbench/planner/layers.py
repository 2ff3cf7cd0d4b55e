# SPDX-License-Identifier: Apache-2.0
"""What a layer's passes take by themselves, for all ways to execute it: what several share is worked out once.

A search bounds every strategy by its layers' passes. Operators last as long whatever is recomputed of them, and as long
on every fabric; what a pass sends is the same on every fabric.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from commbench.planner.prices import StagePrices
from commbench.workload.compute import work_seconds
from commbench.workload.cost import recomputed
from commbench.workload.operator import Operator, Work
from commbench.workload.operators import layer_operators
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.step_plan import StepPlan
from commbench.workload.traffic import Traffic, layer_traffic
from commbench.workload.transformer import Execution

__all__ = ["LayerSeconds", "Layers"]


@dataclass(frozen=True, slots=True)
class LayerSeconds:
    """Seconds of the forward and the whole backward pass of a layer, and how many of the model are built like it."""

    count: int
    forward: float
    backward: float


@dataclass(frozen=True, slots=True)
class _Pass:
    """Seconds on the device, and of the host; collectives, each with how often it is called: kind, bytes, ranks,
    stride.
    """

    device: float
    host: float
    calls: tuple[tuple[tuple[str, int, int, int], int], ...]

    def seconds(self, prices: StagePrices) -> float:
        """Of the pass, on a fabric."""
        return max(self.host, self.device + sum(often * prices.of_group(*call).total_s for call, often in self.calls))


@dataclass(frozen=True, slots=True)
class _Operators:
    """Of a layer, with the seconds of their passes F, and I and W together."""

    operators: tuple[Operator, ...]
    forward: tuple[float, ...]
    backward: tuple[float, ...]
    parameters: int


class Layers:
    """The layers of one model on one kind of device.

    Args:
        base: a plan of the model; an execution changes what it says of that.
    """

    def __init__(self, base: StepPlan) -> None:
        self._base, model = base, base.model
        self._kinds = Counter(map(model.kind, range(model.num_layers)))
        self._operators: dict[tuple[Execution, int], _Operators] = {}
        self._passes: dict[Execution, tuple[tuple[int, _Pass, _Pass], ...]] = {}

    def seconds(self, plan: StepPlan, prices: StagePrices) -> tuple[LayerSeconds, ...]:
        """Of every kind of layer, as a plan executes it on the ranks that hold it: no more than a step needs for each,
        for what may run beside gradients with ``overlap_tensor`` counts nothing.
        """
        if plan.run not in self._passes:
            self._passes[plan.run] = tuple((count, *self._parts(plan, kind)) for kind, count in self._kinds.items())
        return tuple(
            LayerSeconds(count, forward.seconds(prices), backward.seconds(prices))
            for count, forward, backward in self._passes[plan.run]
        )

    def _parts(self, plan: StepPlan, kind: int) -> tuple[_Pass, _Pass]:
        """Forward and backward."""
        run, traffic = plan.run, layer_traffic(plan.model, plan.run, kind)
        own = self._known(run, kind)
        again = self._again(own, run)
        sent = [one for one in traffic if one.when == "forward"]
        back = [one for one in traffic if one.when != "forward"]
        host = [plan.host_s(1, len(calls), which) for calls, which in ((sent, Pass.FORWARD), (back, Pass.BACKWARD))]
        adding = plan.adding_s(own.parameters)
        on_top = host if plan.launch_blocking else [0.0, 0.0]
        if plan.overlap_tensor:
            back = [one for one in back if one.when == "recompute" or (one.when, one.side) == ("backward", "before")]
        return (
            _Pass(sum(own.forward) + on_top[0], host[0], _calls(plan, sent)),
            _Pass(sum(own.backward) + again + adding + on_top[1], host[1], _calls(plan, back)),
        )

    def _known(self, run: Execution, kind: int) -> _Operators:
        key = (replace(run, recompute="none"), kind)
        if key not in self._operators:
            operators = layer_operators(self._base.model, run, kind)
            forward = tuple(self._lasts(run, op.forward, op.core) for op in operators)
            backward = tuple(
                self._lasts(run, op.input, op.core) + self._lasts(run, op.weight, op.core) for op in operators
            )
            self._operators[key] = _Operators(operators, forward, backward, sum(op.parameters for op in operators))
        return self._operators[key]

    def _again(self, own: _Operators, run: Execution) -> float:
        """Seconds of what is recomputed."""
        if run.recompute == "none":
            return 0.0
        again = ((op, recomputed(op, run), time_s) for op, time_s in zip(own.operators, own.forward, strict=True))
        return sum(time_s if work is op.forward else self._lasts(run, work, op.core) for op, work, time_s in again)

    def _lasts(self, run: Execution, work: Work, core: bool) -> float:
        dtype = run.formats.products if work.layer_product else run.formats.others
        return work_seconds(work, self._base.device, dtype, self._base.efficiency, core=core)


def _calls(plan: StepPlan, sent: Iterable[Traffic]) -> tuple[tuple[tuple[str, int, int, int], int], ...]:
    return tuple(
        Counter((one.collective, one.size_bytes, *plan.degrees.span(one.group)) for one in sent).items()
    )
