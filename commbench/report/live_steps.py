# SPDX-License-Identifier: Apache-2.0
"""Live pipelines above their simulated twins, and what tensor parallelism, products and overlap were measured to be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from commbench.report.pipeline_chart import PassBar, PassKey, PassPanel, pass_keys, pipeline_chart
from commbench.report.style import Picture
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    identity_fields,
    make_table,
    share_cell,
    time_cell,
    word_cell,
)
from commbench.report.text import percent, plural, signed_percent, time_parts, time_text
from commbench.results.device_records import GemmMeasured, OverlapMeasured
from commbench.results.failures import FailedRun
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.records import Record
from commbench.results.spans import RankSpans
from commbench.results.tensor_parallel_records import TensorParallelCompared, TensorParallelMeasured

__all__ = ["LiveSteps", "live_steps"]


@dataclass(frozen=True, slots=True)
class LiveSteps:
    """What the template draws.

    Attributes:
        charts: one per measured pipeline, its twin below it. passes: key to them.
        tables: of failures, bubbles, tensor-parallel traffic, products and overlap, those that have rows.
        notes: what a reader must know to judge the figures.
    """

    charts: tuple[Picture, ...]
    passes: tuple[PassKey, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def live_steps(records: Sequence[Record]) -> LiveSteps | None:
    """The section for records of its kinds (report.kinds); None if there are none."""
    if not records:
        return None
    measured = [record for record in records if isinstance(record, PipelineMeasured)]
    twins = {(r.run, r.executor, r.schedule): r for r in records if isinstance(r, PipelineSimulated)}
    panels = [_panels(one, twins.get((one.run, one.executor, one.schedule))) for one in measured]
    charts = tuple(
        pipeline_chart(these, f"live{number}", title=_title(one), detail=_detail(one))
        for number, (one, these) in enumerate(zip(measured, panels, strict=True))
    )
    tables = (
        *(_failures(records), _bubbles(records), _traffic(records), _twins_alone(records)),
        *(_products(records), _overlap(records)),
    )
    return LiveSteps(
        charts,
        pass_keys([panel for these in panels for panel in these]),
        tuple(table for table in tables if table is not None),
        tuple(dict.fromkeys([*map(_compute_note, measured), *_traffic_notes(records)])),
    )


def _by(executor: str) -> str:
    return "torch.distributed.pipelining" if executor == "torch" else "commbench's executor"


def _title(one: PipelineMeasured) -> str:
    place = f" on {one.fabric}, activations of {one.activation_bytes // 1024} KiB" if one.fabric else ""
    return f"{one.schedule} on {plural(one.ranks, 'live rank')}{place}, by {_by(one.executor)}"


def _detail(one: PipelineMeasured) -> str:
    sizes = f"{plural(one.stages, 'stage')}, microbatches: {one.microbatches}"
    return f"{sizes}; bubble {percent(one.bubble_of_ideal)} of ideal, {percent(one.bubble_of_total)} of total"


def _compute_note(one: PipelineMeasured) -> str:
    if one.compute == "delay":
        delays = ", ".join(f"{kind} {time_text(delay_s)}" for kind, delay_s in one.delays_s.items())
        return (
            f"Compute of {one.schedule} is a stated delay ({delays} on a stage; B lasts I and W), most of it asleep, "
            "so that more stages than cores overlap. Activations and gradients are sent, and their values checked."
        )
    return f"Compute of {one.schedule} is matrix products."


def _panels(measured: PipelineMeasured, simulated: PipelineSimulated | None) -> list[PassPanel]:
    """The iteration nearest to the median, and its twin."""
    spans = measured.median_iteration
    panels = [_panel(f"measured: {time_text(_end_s(spans))}", spans, measured.ranks)]
    if simulated is not None:
        panels.append(_panel(f"simulated: {time_text(simulated.iteration_s)}", simulated.spans, measured.ranks))
    return panels


def _end_s(spans: RankSpans) -> float:
    return max(span.end_s for rank in spans for span in rank)


def _panel(title: str, spans: RankSpans, ranks: int) -> PassPanel:
    bars = tuple(
        PassBar(rank, begin, end, kind, str(microbatch), chunk=stage // ranks)
        for rank, row in enumerate(spans)
        for stage, kind, microbatch, begin, end in row
    )
    return PassPanel(title, tuple(f"rank {rank}" for rank in range(len(spans))), bars)


def _words(title: str, text: Callable[[Any], str]) -> Field:
    return Column(title, numeric=False), lambda r: word_cell(text(r))


def _number(title: str, value: Callable[[Any], float], under: str = "", form: str = ",") -> Field:
    return Column(title, under), lambda r: Cell(format(value(r), form), value(r))


def _seconds(title: str, value: Callable[[Any], float], under: str = "") -> Field:
    return Column(title, under), lambda r: time_cell(value(r))


def _share(title: str, value: Callable[[Any], float | None], under: str = "") -> Field:
    def cell(record: Any) -> Cell:
        share = value(record)
        return Cell("n/a", -1, tone="muted") if share is None else share_cell(share)

    return Column(title, under), cell


def _tone(good: bool) -> str:
    return "" if good else "bad"


def _points(record: PipelineCompared) -> Cell:
    return Cell(f"{record.points:+z.1f}".replace("-", "−"), record.points, tone=_tone(record.points_ok))


def _bubbles(records: Sequence[Record]) -> Table | None:
    found = [record for record in records if isinstance(record, PipelineCompared)]
    idle = [
        _seconds("idle", lambda r, cause=cause: r.idle_s[cause], under)  # type: ignore[misc]
        for cause, under in (
            ("schedule", "of the schedule"),
            ("imbalance", "imbalance"),
            ("transfer", "transfers"),
            ("host", "host"),
        )
    ]
    fields: list[Field] = [
        *identity_fields(PipelineCompared),
        _seconds("step", lambda r: r.measured_s, "measured"),
        _seconds("spread", lambda r: r.spread_s),
        _seconds("step", lambda r: r.simulated_s, "simulated"),
        (Column("error", "of the step"), lambda r: Cell(signed_percent(r.error), r.error, tone=_tone(r.time_ok))),
        _share("bubble", lambda r: r.measured_bubble, "measured"),
        _share("bubble", lambda r: r.simulated_bubble, "simulated"),
        (Column("difference", "points"), _points),
        _share("bubble", lambda r: r.clock_free_bubble, "from m and 2m"),
        *idle,
    ]
    return make_table(
        "bubbles",
        "Bubbles (of total): measured, simulated, and where the mean rank's idle time went",
        found,
        fields,
    )


def _traffic(records: Sequence[Record]) -> Table | None:
    compared = {_block(r): r for r in records if isinstance(r, TensorParallelCompared)}

    def of_twin(title: str, under: str, cell: Callable[[TensorParallelCompared], Cell]) -> Field:
        def make(record: TensorParallelMeasured) -> Cell:
            twin = compared.get(_block(record))
            return Cell("n/a", -1, tone="muted") if twin is None else cell(twin)

        return Column(title, under), make

    fields: list[Field] = [
        *identity_fields(TensorParallelMeasured),
        _words("calls", lambda r: ", ".join(f"{c.calls} {c.collective}" for c in r.counts) or "none"),
        _number("moved", lambda r: round(r.moved_bytes), "B per rank"),
        (
            Column("formula", "8bshe(t−1)/t"),
            lambda r: Cell(f"{round(r.formula_bytes):,}", r.formula_bytes, tone=_tone(r.bytes_ok)),
        ),
        _seconds("step", lambda r: r.time_s),
        (Column("measured", "in collectives"), _measured),
        of_twin("simulated", "in collectives", _simulated),
        of_twin("error", "", _error),
        (Column("wrong", "float64"), _wrong_by),
    ]
    found = [record for record in records if isinstance(record, TensorParallelMeasured)]
    return make_table("traffic", "Tensor parallelism: one transformer block, forward and backward", found, fields)


def _twins_alone(records: Sequence[Record]) -> Table | None:
    """Comparisons whose measurement is not among the records, as in a file of many runs' comparisons."""
    measured = {_block(r) for r in records if isinstance(r, TensorParallelMeasured)}
    fields: list[Field] = [
        *identity_fields(TensorParallelCompared),
        _seconds("measured", lambda r: r.measured_s, "in collectives"),
        _seconds("spread", lambda r: r.spread_s, "median deviation"),
        (Column("simulated", "in collectives"), _simulated),
        (Column("error", "signed"), _error),
        _seconds("step", lambda r: r.measured_step_s, "measured"),
        _seconds("step", lambda r: r.simulated_step_s, "simulated"),
    ]
    found = [r for r in records if isinstance(r, TensorParallelCompared) and _block(r) not in measured]
    return make_table("twins", "Tensor parallelism: comparisons whose measurement is in other files", found, fields)


def _block(record: TensorParallelMeasured | TensorParallelCompared) -> tuple[str, str, bool]:
    return record.run, record.method, record.sequence_parallel


def _measured(record: TensorParallelMeasured) -> Cell:
    """With its spread, in one unit."""
    number, unit = time_parts(record.exposed_s)
    spread = float(number) * record.spread_s / record.exposed_s if record.exposed_s else 0.0
    decimals = len(number.partition(".")[2])
    return Cell(f"{number} ± {spread:.{decimals}f}", record.exposed_s, unit)


def _simulated(twin: TensorParallelCompared) -> Cell:
    return time_cell(twin.simulated_s)


def _error(twin: TensorParallelCompared) -> Cell:
    return Cell(signed_percent(twin.error), twin.error, tone=_tone(twin.ok))


def _wrong_by(record: TensorParallelMeasured) -> Cell:
    if record.largest_error is None:
        return Cell("not checked", -1, tone="muted")
    text = f"{record.largest_error:.1e}".replace("-", "−")
    return Cell(text, record.largest_error, tone=_tone(record.values_ok is not False))


def _traffic_notes(records: Sequence[Record]) -> list[str]:
    """What simulated traffic rests on, a sentence for each number of ranks and of sizes."""
    alike: dict[tuple[int, int], list[float]] = {}
    for twin in records:
        if isinstance(twin, TensorParallelCompared):
            alike.setdefault((twin.ranks, len(twin.calibration)), []).append(twin.fit_error)
    return [
        f"Tensor parallelism on {plural(ranks, 'rank')}: computing as measured, collectives simulated on a "
        f"machine that was calibrated on {plural(sizes, 'size')} of all-reduces alone, which it explains to "
        f"{' to '.join(dict.fromkeys((percent(min(errors)), percent(max(errors)))))} (median). Time in collectives "
        "counts waiting for the slowest rank; it is the slowest rank's, the median over iterations ± its median "
        "deviation."
        for (ranks, sizes), errors in alike.items()
    ]


def _failures(records: Sequence[Record]) -> Table | None:
    fields: list[Field] = [
        *identity_fields(FailedRun),
        (Column("why", numeric=False), lambda r: word_cell(r.message)),
        (Column("stacks of the others", numeric=False), lambda r: word_cell(r.stacks or "none")),
    ]
    found = [record for record in records if isinstance(record, FailedRun)]
    return make_table("failures", "Runs that failed", found, fields)


def _products(records: Sequence[Record]) -> Table | None:
    fields: list[Field] = [
        *identity_fields(GemmMeasured),
        _seconds("time", lambda r: r.seconds),
        _number("reached", lambda r: r.flops / 1e9, "GFLOP/s", ",.1f"),
        _share("of peak", lambda r: r.efficiency),
    ]
    found = [record for record in records if isinstance(record, GemmMeasured)]
    return make_table("products", "Matrix products", found, fields)


def _overlap(records: Sequence[Record]) -> Table | None:
    fields: list[Field] = [
        *identity_fields(OverlapMeasured),
        _seconds("product", lambda r: r.derived()["product_alone_time_s"], "alone"),
        _seconds("product", lambda r: r.derived()["product_beside_time_s"], "beside all-reduces"),
        _number("slowdown", lambda r: r.product_slowdown, "of the product", ".3f"),
        _seconds("all-reduce", lambda r: r.derived()["collective_alone_time_s"], "alone"),
        _seconds("all-reduce", lambda r: r.derived()["collective_beside_time_s"], "beside products"),
        _number("slowdown", lambda r: r.collective_slowdown, "of the all-reduce", ".3f"),
    ]
    found = [record for record in records if isinstance(record, OverlapMeasured)]
    return make_table("overlap", "A product and an all-reduce side by side", found, fields)
