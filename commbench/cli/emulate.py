# SPDX-License-Identifier: Apache-2.0
"""``commbench emulate TOPOLOGY run COLLECTIVE``: live ranks on a fabric of network namespaces; ``emulate --clean``."""

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.options import DEFAULT_SIZE, Jsonl, MaxBytes, MinBytes, StepBytes, StepFactor
from commbench.cli.reading import tell
from commbench.cli.run import NATIVE, choose_algorithm, refuse_for_native, schedules_for, sizes_for
from commbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from commbench.emulate.jobs import Job
    from commbench.emulate.lab import Lab
    from commbench.emulate.plan import LabPlan
    from commbench.emulate.preflight import Capacity
    from commbench.live.observe import Observer
    from commbench.live.plan import Plan
    from commbench.results.records import Measured
    from commbench.topology.faults import FaultScript
    from commbench.topology.model import Topology

__all__ = ["app"]

app = typer.Typer(help="Run on a fabric of network namespaces on this machine.", invoke_without_command=True)

_AUTO, _OWN = "auto", "own"
_LEAST_IDLE = 0.1  # of the processors' time in a run, start of the ranks included


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


@app.command("run")
def run(
    context: typer.Context,
    collective: Annotated[str, typer.Argument(help="What to measure: all-reduce, all-gather, ...")],
    nproc: Annotated[int | None, typer.Option("--nproc", help="Ranks, on the first hosts [all hosts].")] = None,
    jobs: Annotated[str, typer.Option(help="Jobs at once: a number, or ranks such as 0,1,4,5/2,3,6,7.")] = "1",
    background: Annotated[
        list[str] | None, typer.Option(help="SRC:DST, ranks between whose hosts a flow goes on all the time.")
    ] = None,
    faults: Annotated[Path | None, typer.Option(help="Fault script (YAML).")] = None,
    rate: Annotated[
        str,
        typer.Option(help="Of the hosts' links, the others in proportion; own: as in the file; auto: own or lower."),
    ] = _AUTO,
    routing: Annotated[str | None, typer.Option(help="d-mod-k or ecmp [the topology's own].")] = None,
    mtu: Annotated[int, typer.Option(help="Bytes of an IP packet.")] = 1500,
    seed: Annotated[int, typer.Option(help="Of the hash of ECMP, from 1.")] = 1,
    preflight: Annotated[bool, typer.Option("--preflight/--no-preflight", help="Measure the machine first.")] = True,
    minbytes: MinBytes = DEFAULT_SIZE,
    maxbytes: MaxBytes = None,
    stepfactor: StepFactor = None,
    stepbytes: StepBytes = None,
    iters: Annotated[int, typer.Option("--iters", "-n", help="Timed iterations per size.")] = 5,
    warmup: Annotated[int, typer.Option("--warmup", "-w", help="Warm-up iterations per size.")] = 1,
    dtype: Annotated[str, typer.Option("--dtype", "-d", help="Element type.")] = "float32",
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="native (gloo's own), a name, or a file.")
    ] = NATIVE,
    slices: Annotated[int | None, typer.Option(help="Pieces it is pipelined in [the algorithm's own].")] = None,
    channels: Annotated[int | None, typer.Option(help="Pieces that run side by side [1].")] = None,
    root: Annotated[int | None, typer.Option("--root", "-r", help="Root rank of a rooted collective [0].")] = None,
    group: Annotated[int | None, typer.Option(help="Ranks per group for hierarchical algorithms [1].")] = None,
    timing: Annotated[str, typer.Option(help="isolated (barrier before each iteration) or pipelined.")] = "isolated",
    timeout: Annotated[float, typer.Option(help="Seconds without progress that count as hung.")] = 300.0,
    out: Annotated[Path | None, typer.Option(help="Journal to append to [runs/<time>-...jsonl].")] = None,
    json: Jsonl = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Check the values after the timed loop.")] = True,
) -> None:
    """Measure a collective inside the fabric, as `commbench run` does, one rank per host."""
    from commbench.emulate.privilege import gain

    gain()  # first of all: what is imported below may start threads
    from commbench.emulate.jobs import Job, jobs_of
    from commbench.emulate.lab import Lab
    from commbench.live.measure import require_right
    from commbench.live.plan import Plan, default_out
    from commbench.topology.load import load_topology

    topology = load_topology(context.obj)
    groups = jobs_of(jobs, topology.num_ranks if nproc is None else nproc, topology)
    flows = [_ends(text, topology) for text in background or ()]
    script = _script(faults, topology)
    planned, capacity = _laid_out(topology, rate, routing, mtu, len(flows) + _flows_of(script), preflight)
    lab = Lab(planned, seed=seed)
    facts = lab.describe() | _setting(groups, flows, script, capacity)
    journal = out or default_out(f"emulated-{collective}", Path(algorithm).stem)

    def job(number: int, ranks: tuple[int, ...]) -> Job:
        shape = _shape(
            collective,
            len(ranks),
            dtype,
            algorithm,
            root,
            slices,
            channels,
            group,
            minbytes,
            maxbytes,
            stepfactor,
            stepbytes,
        )
        plan = Plan(
            **shape,
            out=journal,
            run=journal.stem if len(groups) == 1 else f"{journal.stem}-job{number}",
            backend="gloo",
            iters=iters,
            warmup=warmup,
            timing=timing,
            check=check,
            timeout_s=timeout,
            facts={"emulated": facts | {"job": number, "hosts": list(ranks)}},
        )
        return Job(plan, ranks, _observer(plan, number, len(groups), json))

    require_right(_measure(lab, [job(*numbered) for numbered in enumerate(groups)], flows, script))


def _shape(
    collective: str,
    num_ranks: int,
    dtype: str,
    algorithm: str,
    root: int | None,
    slices: int | None,
    channels: int | None,
    group: int | None,
    *range_of_sizes: "str | float | None",
) -> "dict[str, Any]":
    """What of a plan says what is sent: sizes, schedule (None: gloo's own) and so on, of one job."""
    from commbench.collectives.algorithm import Request
    from commbench.collectives.sizes import dtype_bytes
    from commbench.collectives.spec import get_collective

    spec, element_bytes = get_collective(collective), dtype_bytes(dtype)
    if root is not None and not spec.rooted:
        raise InputError(f"--root {root} has no meaning for {collective}")
    sizes = sizes_for(spec, num_ranks, element_bytes, *range_of_sizes)  # type: ignore[arg-type]
    shape = {"collective": collective, "ranks": num_ranks, "sizes_bytes": sizes, "dtype": dtype, "root": root or 0}
    if algorithm == NATIVE:
        refuse_for_native(slices=slices, channels=channels, group=group)
        return shape
    chosen = choose_algorithm(collective, algorithm)
    used = chosen.default_slices if slices is None else slices
    request = Request(
        num_ranks=num_ranks,
        slices=used,
        channels=1 if channels is None else channels,
        root=root or 0,
        group=1 if group is None else group,
        element_bytes=element_bytes,
    )
    return shape | {"schedule": schedules_for(chosen, request, sizes), "slices": used}


def _ends(text: str, topology: "Topology") -> tuple[int, int]:
    """The two ranks of a background flow "SRC:DST"."""
    src, colon, dst = text.partition(":")
    if not (colon and src.isdecimal() and dst.isdecimal()):
        raise InputError(f"--background {text!r}: give two ranks, such as 0:5")
    ends = int(src), int(dst)
    if max(ends) >= topology.num_ranks or ends[0] == ends[1]:
        raise InputError(f"--background {text}: two different ranks of 0..{topology.num_ranks - 1} are needed")
    return ends


def _script(path: Path | None, topology: "Topology") -> "FaultScript | None":
    if path is None:
        return None
    from commbench.topology.faults import load_faults, require_fits

    script = load_faults(path)
    require_fits(script, topology)
    return script


def _flows_of(script: "FaultScript | None") -> int:
    from commbench.topology.faults import Background

    return sum(isinstance(fault, Background) for fault in script.faults) if script else 0


def _laid_out(
    topology: "Topology", rate: str, routing: str | None, mtu: int, num_flows: int, preflight: bool
) -> "tuple[LabPlan, Capacity | None]":
    """The plan of the lab at a rate that this machine carries, and what it carries.

    Raises:
        InputError: it does not carry the rate that was asked for.
    """
    from commbench.emulate.plan import plan_lab, require_plain, scaled
    from commbench.emulate.preflight import fitting, measure_capacity, require_carried
    from commbench.emulate.tables import equal_cost, single_path
    from commbench.routing.policies import get_policy
    from commbench.routing.router import Router
    from commbench.units import parse_bandwidth

    require_plain(topology)
    policy = get_policy(routing or topology.routing).name
    tables = equal_cost(topology) if policy == "ecmp" else single_path(topology, partial(Router, policy=policy))
    own = plan_lab(topology, tables, routing=policy, mtu=mtu, num_background=num_flows)
    asked = own if rate in (_AUTO, _OWN) else scaled(own, parse_bandwidth(rate))
    if not preflight:
        if rate == _AUTO:
            raise InputError("--rate auto needs the preflight; give a rate with --no-preflight")
        return asked, None
    capacity = measure_capacity(mtu)
    plan = fitting(own, capacity) if rate == _AUTO else asked
    require_carried(plan, capacity)
    rates = [rate * 8e-6 for rate in (plan.host_rate, plan.total_rate, capacity.bytes_per_s)]
    tell(
        f"hosts' links at {rates[0]:g} Mbit/s, {plan.scale:.4g} of {topology.name}'s own; all links add up to "
        f"{rates[1]:.0f} Mbit/s, this machine carries {rates[2]:.0f} Mbit/s"
    )
    return plan, capacity


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
    from commbench.live.console import JsonLines, Table

    class JobTable(Table):
        def measured(self, record: "Measured") -> None:
            print(f"# job {number}:", flush=True)
            super().measured(record)

    return JsonLines() if json else Table(plan) if num_jobs == 1 else JobTable(plan)


def _measure(
    lab: "Lab", jobs: "Sequence[Job]", flows: "Sequence[tuple[int, int]]", script: "FaultScript | None"
) -> "list[Measured]":
    """Make the lab, run the jobs in it, and take it away, however they end."""
    from commbench.emulate.jobs import run_jobs
    from commbench.emulate.preflight import Idleness

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    journal = jobs[0].plan.out
    try:
        with lab:
            for plane, ends in enumerate(flows, 1):
                lab.start_flow(*ends, 0, plane)
            idleness = Idleness()
            found = run_jobs(lab, jobs, faults=script, first_plane=len(flows) + 1, tell=tell)
            if idleness.share() < _LEAST_IDLE:
                tell(f"warning: processors idle for {idleness.share():.0%} of the run: they may be what it measured")
            for (src, dst), count in lab.dropped().items():
                tell(f"warning: {count} packets were lost on {src} -> {dst} for want of room")
            return [record for records in found for record in records]
    except KeyboardInterrupt:
        tell("interrupted: the ranks were ended, the lab is gone, complete sizes are kept")
        raise SystemExit(130) from None
    finally:
        for job in jobs:
            job.observer.close()
        if journal.exists():
            tell(f"records: {journal}")
