# SPDX-License-Identifier: Apache-2.0
"""What one pass of one microbatch through one stage consists of: work and collectives in their order, as data.

Forward runs the operators of the stage in order; backward runs them the other way, for each of them the input
gradient and then the weight gradient (B; alone these are I and W). What is recomputed runs before the backward pass of
its layer (full) or of its operator (selective), with its collectives. The collectives of ``traffic`` stand where their
operator says.

``beside`` says what runs beside compute. "gradients": the collectives of a column-parallel product's backward beside
its gradients, as in Megatron-LM (core 0.12, tensor_parallel, LinearWithGradAccumulationAndAsyncCommunication): the
gathering of its input beside the input gradient, the sum of its input gradient beside the weight gradient. A kind of
traffic, "tensor" or "context": its collectives beside the very product or core that reads or makes what they bring, in
pieces (Transformer Engine's user buffers, PyTorch's asynchronous tensor parallelism, ring attention).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from commbench.errors import InputError
from commbench.workload.cost import recomputed
from commbench.workload.operator import NOTHING, Operator
from commbench.workload.operator import Work as Cost
from commbench.workload.operators import embedding_operators, head_operators, layer_operators
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.traffic import Traffic, embedding_traffic, head_traffic, layer_traffic
from commbench.workload.transformer import Execution, Transformer

__all__ = [
    "Begin",
    "Call",
    "End",
    "Item",
    "Join",
    "Landed",
    "Layer",
    "Move",
    "Picoseconds",
    "Work",
    "distinct_layers",
    "merged",
    "pass_items",
    "stage_layers",
]


@dataclass(frozen=True, slots=True)
class Work:
    """``duration_ps`` picoseconds of computing; ``kind`` is "forward", "recompute" or "backward", or "host" where the
    device waits for its host."""

    kind: str
    duration_ps: int


@dataclass(frozen=True, slots=True)
class Call:
    """A collective; ``beside``: what follows need not wait for it, up to the next Join."""

    traffic: Traffic
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the collectives beside."""


@dataclass(frozen=True, slots=True)
class Move:
    """``duration_ps`` picoseconds of a copy between device and host memory, beside what follows up to Landed."""

    duration_ps: int


@dataclass(frozen=True, slots=True)
class Landed:
    """Wait for the copy."""


@dataclass(frozen=True, slots=True)
class Begin:
    """From here on a layer's weights are needed. Layers of a stage: -1 the embedding, then 0 and up, then the head."""

    layer: int


@dataclass(frozen=True, slots=True)
class End:
    """A layer is through; in backward passes with weight gradients, its gradients are there."""

    layer: int


_PLACES = {(when, side) for when in ("forward", "recompute", "backward") for side in ("before", "after")}
_PLACES.add(("weight", "before"))

Item = Work | Call | Join | Move | Landed | Begin | End
Picoseconds = Callable[[Cost, bool], int]
"""How long a pass of an operator lasts; the flag says whether it is an attention core."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Operators and collectives of a layer, of the embedding (number -1) or of the head (number of layers).

    Raises:
        InputError: a collective that stands beside no operator of the layer, so that no pass would have it.
    """

    number: int
    operators: tuple[Operator, ...]
    traffic: tuple[Traffic, ...]

    def __post_init__(self) -> None:
        names = [op.name for op in self.operators]
        for one in self.traffic:
            if one.operator not in names or (one.when, one.side) not in _PLACES:
                raise InputError(
                    f"{one.kind} {one.collective} ({one.when}, {one.side} {one.operator!r}) stands nowhere in layer "
                    f"{self.number}, whose operators are {', '.join(names)}"
                )

    def calls(self, when: str, operator: str, side: str) -> Iterator[Call]:
        """The collectives at this place."""
        for one in self.traffic:
            if (one.when, one.operator, one.side) == (when, operator, side):
                yield Call(one)


def distinct_layers(
    model: Transformer, run: Execution, layers: Sequence[int], *, first: bool, last: bool
) -> tuple[tuple[Layer, tuple[int, ...]], ...]:
    """What a stage with these of the model's layers consists of, without repetition.

    Each comes with the numbers of the stage's layers that are like it; its own number is that of the first layer of the
    whole model that is (-1 the embedding, the number of the model's layers: the head).
    """
    alike: dict[int, list[int]] = {}
    for place, number in enumerate(layers):
        alike.setdefault(model.kind(number), []).append(place)
    found = [
        (Layer(kind, layer_operators(model, run, kind), layer_traffic(model, run, kind)), tuple(places))
        for kind, places in alike.items()
    ]
    if first:
        found.insert(0, (Layer(-1, embedding_operators(model, run), embedding_traffic(model, run)), (-1,)))
    if last:
        head = head_operators(model, run, own_weights=not (model.tied and first))
        found.append((Layer(model.num_layers, head, head_traffic(model, run)), (len(layers),)))
    return tuple(found)


def stage_layers(
    model: Transformer, run: Execution, layers: Sequence[int], *, first: bool, last: bool
) -> tuple[Layer, ...]:
    """The layers of a stage, which holds these of the model, in forward order."""
    each = {
        place: replace(layer, number=place)
        for layer, places in distinct_layers(model, run, layers, first=first, last=last)
        for place in places
    }
    return tuple(each[place] for place in sorted(each))


def pass_items(
    layers: Sequence[Layer],
    run: Execution,
    kind: Pass,
    lasts: Picoseconds,
    *,
    beside: frozenset[str] = frozenset(),
) -> tuple[Item, ...]:
    """The items of one pass.

    Args:
        layers: of the stage, from :func:`stage_layers`.
        run: how it is executed.
        kind: which pass.
        lasts: see Picoseconds.
        beside: see the module docstring; only a whole backward (B) has both gradients beside which to run.
    """
    items: list[Item] = []
    for layer in layers if kind is Pass.FORWARD else reversed(layers):
        items.append(Begin(layer.number))
        match kind:
            case Pass.FORWARD:
                items += _forward(layer, "forward", "forward", layer.operators, lasts, beside)
            case Pass.WEIGHT:
                for op in reversed(layer.operators):
                    items += _weight(layer, op, lasts)
            case _:
                items += _backward(layer, run, lasts, whole=kind is Pass.BACKWARD, beside=beside)
        items.append(End(layer.number))
    return tuple(items)


def _forward(
    layer: Layer, kind: str, when: str, operators: Iterable[Operator], lasts: Picoseconds, beside: frozenset[str]
) -> Iterator[Item]:
    for op in operators:
        before, own = _split(layer, when, op, "before", beside)
        after, more = _split(layer, when, op, "after", beside)
        yield from (*before, *own, *more)
        yield Work(kind, lasts(op.forward, op.core))
        if own or more:
            yield Join()
        yield from after


def _split(layer: Layer, when: str, op: Operator, side: str, beside: frozenset[str]) -> tuple[list[Call], list[Call]]:
    """The collectives at this place that nothing runs beside, and those that run beside their own operator."""
    calls = list(layer.calls(when, op.name, side))
    own = [call for call in calls if call.traffic.kind in beside and op.forward.flops]
    return [call for call in calls if call not in own], [replace(call, beside=True) for call in own]


def _backward(
    layer: Layer, run: Execution, lasts: Picoseconds, *, whole: bool, beside: frozenset[str]
) -> Iterator[Item]:
    again = [op for op in layer.operators if recomputed(op, run) != NOTHING and not op.core]
    if again and run.recompute == "full":  # the layer from its beginning
        yield from _forward(layer, "recompute", "recompute", layer.operators, lasts, beside)
    elif again:
        yield from (Work("recompute", lasts(recomputed(op, run), False)) for op in again)
    overlap = "gradients" in beside and whole
    for op in reversed(layer.operators):
        if op.core and not again and recomputed(op, run) != NOTHING:
            yield from _forward(layer, "recompute", "recompute", [op], lasts, beside)
        before, own = _split(layer, "backward", op, "before", beside)
        after, more = _split(layer, "backward", op, "after", beside)
        weights = list(_weight(layer, op, lasts)) if whole else []
        gathers = [Call(item.traffic, beside=True) for item in weights if isinstance(item, Call) and overlap]
        if gathers:
            weights = [item for item in weights if not isinstance(item, Call)]
        behind = [replace(call, beside=True) for call in (*after, *more)] if overlap and weights else []
        with_input = [*gathers, *own, *([] if behind else more)]
        yield from (*before, *with_input)
        yield Work("backward", lasts(op.input, op.core))
        if with_input:
            yield Join()
        yield from (*behind, *weights)
        yield from [Join()] if behind else after


def _weight(layer: Layer, op: Operator, lasts: Picoseconds) -> Iterator[Item]:
    yield from layer.calls("weight", op.name, "before")
    if op.weight != NOTHING:
        yield Work("backward", lasts(op.weight, op.core))


def merged(items: Iterable[Item], *, marks: bool) -> tuple[Item, ...]:
    """Neighbouring work of one kind added up; without ``marks``, also across the ends of layers, which are left out."""
    found: list[Item] = []
    for item in items:
        if isinstance(item, Begin | End) and not marks:
            continue
        last = found[-1] if found else None
        if isinstance(item, Work) and isinstance(last, Work) and item.kind == last.kind:
            found[-1] = Work(item.kind, item.duration_ps + last.duration_ps)
        elif not (isinstance(item, Work) and item.duration_ps == 0):
            found.append(item)
    return tuple(found)
