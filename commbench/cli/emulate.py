# SPDX-License-Identifier: Apache-2.0
"""``commbench emulate TOPOLOGY run COLLECTIVE``: live ranks on a fabric of network namespaces; ``emulate --clean``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.emulate_lab import AUTO, Jobs, Mtu, Nproc, Preflight, Rate, Routing, Seed, in_lab, laid_out
from commbench.cli.first_word import by_first_word
from commbench.cli.options import (
    DEFAULT_SIZE,
    Channels,
    CheckValues,
    Dtype,
    ItersPerSize,
    JoinTimeout,
    Jsonl,
    MaxBytes,
    MinBytes,
    Out,
    Root,
    Slices,
    StepBytes,
    StepFactor,
    Timeout,
    Timing,
    WarmupPerSize,
    require_collective,
)
from commbench.errors import InputError
from commbench.experiments.collective import NATIVE, Asked
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from commbench.emulate.jobs import EmulatedJob
    from commbench.emulate.preflight import Capacity
    from commbench.emulate.testbed import Testbed
    from commbench.live.observe import Observer
    from commbench.live.plan import Plan
    from commbench.results.records import Measured
    from commbench.topology.fabric import Fabric
    from commbench.topology.faults import FaultScript

__all__ = ["app"]

app = typer.Typer(help="Run on a fabric of network namespaces on this machine.", invoke_without_command=True)


@app.callback()
def emulate(
    context: typer.Context,
    topology: Annotated[str | None, typer.Argument(help="Name or file of a topology of plain hosts.")] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Take away what labs that crashed have left.")] = False,
) -> None:
    """Make a fabric of network namespaces, run in it, and take it away again."""
    if clean:
        if topology is not None:
            raise InputError(f"emulate --clean takes no topology; got {topology!r}")
        _clean()
        raise typer.Exit
    if topology is None or context.invoked_subcommand is None:
        raise InputError("give a topology and what to do: commbench emulate TOPOLOGY run COLLECTIVE; or --clean")
    context.obj = topology


def _clean() -> None:
    from commbench.emulate.state import clean, state_folder

    folder = state_folder()
    if not clean(folder, tell):
        tell(f"nothing to clean in {folder}")


@app.command(
    "run",
    cls=by_first_word({"pipeline": "emulate_pipeline"}.get),
    epilog="commbench emulate TOPOLOGY run pipeline has options of its own: --help.",
)
def run(
    context: typer.Context,
    collective: Annotated[str, typer.Argument(help="What to measure: all-reduce, all-gather, ...")],
    nproc: Nproc = None,
    jobs: Jobs = "1",
    background: Annotated[
        list[str] | None, typer.Option(help="SRC:DST, ranks between whose hosts a flow goes on all the time.")
    ] = None,
    faults: Annotated[Path | None, typer.Option(help="Fault script (YAML).")] = None,
    rate: Rate = AUTO,
    routing: Routing = None,
    mtu: Mtu = 1500,
    seed: Seed = 1,
    preflight: Preflight = True,
    minbytes: MinBytes = DEFAULT_SIZE,
    maxbytes: MaxBytes = None,
    stepfactor: StepFactor = None,
    stepbytes: StepBytes = None,
    iters: ItersPerSize = 5,
    warmup: WarmupPerSize = 1,
    dtype: Dtype = "float32",
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="native (gloo's own), a name, or a file.")
    ] = NATIVE,
    slices: Slices = None,
    channels: Channels = None,
    root: Root = None,
    group: Annotated[int | None, typer.Option(help="Ranks per group for hierarchical algorithms [1].")] = None,
    timing: Timing = "isolated",
    timeout: Timeout = 300.0,
    join_timeout: JoinTimeout = 120.0,
    out: Out = None,
    json: Jsonl = False,
    check: CheckValues = True,
) -> None:
    """Measure a collective inside the fabric, as `commbench run` does, one rank per host."""
    from commbench.emulate.privilege import gain
    from commbench.live.ending import end_in_order

    gain()  # first of all: what is imported below may start threads
    end_in_order()
    from commbench.emulate.jobs import EmulatedJob, jobs_of
    from commbench.emulate.testbed import Testbed
    from commbench.live.measure import require_right
    from commbench.live.plan import Plan, default_out
    from commbench.results.run_id import new_run_id
    from commbench.topology.load import load_fabric

    topology = load_fabric(context.obj)
    groups = jobs_of(jobs, topology.num_ranks if nproc is None else nproc, topology)
    flows = [_ends(text, topology) for text in background or ()]
    script = _script(faults, topology)
    sizes = (minbytes, maxbytes, stepfactor, stepbytes)
    collective = require_collective(collective, "pipeline")
    asked = Asked(collective, algorithm, sizes, dtype, root, slices, channels, group)
    shapes = [asked.shape(len(ranks), 1, tell) for ranks in groups]
    planned, capacity = laid_out(topology, rate, routing, mtu, preflight, len(flows) + _flows_of(script))
    lab = Testbed(planned, seed=seed)
    facts = lab.describe() | _setting(groups, flows, script, capacity)
    run_id = new_run_id()
    journal = out or default_out(run_id, f"emulated-{collective}", Path(algorithm).stem)

    def job(number: int, ranks: tuple[int, ...]) -> EmulatedJob:
        plan = Plan(
            **shapes[number],
            out=journal,
            run=run_id if len(groups) == 1 else f"{run_id}-job{number}",
            backend="gloo",
            iters=iters,
            warmup=warmup,
            timing=timing,
            check=check,
            timeout_s=timeout,
            join_timeout_s=join_timeout,
            facts={"emulated": facts | {"job": number, "hosts": list(ranks)}},
        )
        return EmulatedJob(plan, ranks, _observer(plan, number, len(groups), json))

    require_right(_measure(lab, [job(*numbered) for numbered in enumerate(groups)], flows, script))


def _ends(text: str, topology: "Fabric") -> tuple[int, int]:
    """The two ranks of a background flow "SRC:DST"."""
    src, colon, dst = text.partition(":")
    if not (colon and src.isdecimal() and dst.isdecimal()):
        raise InputError(f"--background {text!r}: give two ranks, such as 0:5")
    ends = int(src[:20]), int(dst[:20])  # more digits than any rank has
    if max(ends) >= topology.num_ranks or ends[0] == ends[1]:
        raise InputError(f"--background {text}: two different ranks of 0..{topology.num_ranks - 1} are needed")
    return ends


def _script(path: Path | None, topology: "Fabric") -> "FaultScript | None":
    if path is None:
        return None
    from commbench.topology.fault_files import load_faults
    from commbench.topology.faults import require_fits

    script = load_faults(path)
    require_fits(script, topology)
    return script


def _flows_of(script: "FaultScript | None") -> int:
    from commbench.topology.faults import Background

    return sum(isinstance(fault, Background) for fault in script.faults) if script else 0


def _setting(
    groups: "Sequence[tuple[int, ...]]",
    flows: "Sequence[tuple[int, int]]",
    script: "FaultScript | None",
    capacity: "Capacity | None",
) -> "dict[str, Any]":
    """What runs in the lab, for the record."""
    from dataclasses import asdict

    return {
        "jobs": [list(ranks) for ranks in groups],
        "background": [list(flow) for flow in flows],
        "faults": [{"fault": type(f).__name__, **asdict(f)} for f in script.faults] if script else [],
        "capacity_bytes_per_s": None if capacity is None else round(capacity.bytes_per_s),
    }


def _observer(plan: "Plan", number: int, num_jobs: int, json: bool) -> "Observer":
    """What shows a job: its records as JSON, or nccl-tests' table, with several jobs each row under its number."""
    from commbench.live.console import JsonLines, RunTable

    class JobTable(RunTable):
        def measured(self, record: "Measured") -> None:
            put(f"# job {number}:")
            super().measured(record)

    return JsonLines() if json else RunTable(plan) if num_jobs == 1 else JobTable(plan)


def _measure(
    lab: "Testbed", jobs: "Sequence[EmulatedJob]", flows: "Sequence[tuple[int, int]]", script: "FaultScript | None"
) -> "list[Measured]":
    """Make the lab, run the jobs in it, and take it away, however they end."""
    from commbench.emulate.jobs import run_jobs
    from commbench.results.records import Measured

    with in_lab(lab, jobs[0].plan.out):
        try:
            for plane, ends in enumerate(flows, 1):
                lab.start_flow(*ends, 0, plane)
            found = run_jobs(lab, jobs, faults=script, first_plane=len(flows) + 1, tell=tell)
        finally:
            for job in jobs:
                job.observer.close()
    return [record for records in found for record in records if isinstance(record, Measured)]
