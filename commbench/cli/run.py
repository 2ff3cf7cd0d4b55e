# SPDX-License-Identifier: Apache-2.0
"""``commbench run COLLECTIVE``: measure a collective on live ranks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.first_word import by_first_word
from commbench.cli.measuring import Measuring
from commbench.cli.options import (
    DEFAULT_SIZE,
    Channels,
    Matrix,
    MinBytes,
    NcclTests,
    Root,
    Slices,
    Timing,
    Zipf,
    require_collective,
    require_one_format,
    with_options_of,
)
from commbench.cli.running import ranks_of, run_here
from commbench.collectives.uneven import UnevenSizes
from commbench.errors import InputError
from commbench.experiments.collective import EVERY, NATIVE, Asked, every_collective, require_memory, root_of
from commbench.terminal import tell

if TYPE_CHECKING:
    from commbench.live.rank_info import RankInfo

__all__ = ["COMMAND", "OTHERS", "run"]

OTHERS = {
    "pipeline": "run_pipeline",
    "tensor-parallel": "run_tensor_parallel",
    "gemm": "run_gemm",
    "overlap": "run_overlap",
    "pairwise": "run_pairwise",
    "incast": "run_incast",
    "multi": "run_multi",
}
"""Words with options of their own, and the modules that they are in."""
COMMAND = {
    "cls": by_first_word(OTHERS.get),
    "epilog": f"{', '.join(OTHERS)} have options of their own: commbench run pipeline --help.",
}
_DEFAULT_RANKS = 2


@with_options_of(Measuring)
def run(
    collective: Annotated[str, typer.Argument(help="What to measure: all-reduce, all-gather, ..., or all.")],
    nproc: Annotated[int | None, typer.Option("--nproc", "-g", "--np", "-np", help="Ranks to start here [2].")] = None,
    minbytes: MinBytes = DEFAULT_SIZE,
    graphs: Annotated[
        int, typer.Option("--graphs", "-G", help="Launch all -n iterations as one CUDA graph, so many times.")
    ] = 0,
    op: Annotated[str, typer.Option("--op", "-o", help="sum, prod, min, max; avg, mulsum on nccl.")] = "sum",
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="native (the backend's own), a name, or a file.")
    ] = NATIVE,
    slices: Slices = None,
    channels: Channels = None,
    root: Root = None,
    group: Annotated[
        int | None, typer.Option(help="Ranks per host for hierarchical algorithms [as the launcher says].")
    ] = None,
    matrix: Matrix = None,
    zipf: Zipf = None,
    timing: Timing = "isolated",
    place: Annotated[
        str, typer.Option(help="Results in the input's memory (in), in other (out), or both in turn [as usual].")
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the file of --out: leave out sizes that it has.")
    ] = False,
    percentiles: Annotated[
        bool, typer.Option("--percentiles", help="Columns for the 95th and 99th percentile and the slowest iteration.")
    ] = False,
    form: NcclTests = "table",
    **given: Any,
) -> None:
    """Measure a collective: nccl-tests' table on stdout, every sample in a journal."""
    from commbench.live.backend import may_find_gpus
    from commbench.live.console import JsonLines, NcclTestsText, RunTable
    from commbench.live.measure import require_right
    from commbench.live.observe import Observer
    from commbench.live.plan import Plan, default_out
    from commbench.live.suite import InTurn, Suite
    from commbench.results.records import Measured
    from commbench.results.run_id import new_run_id

    how = Measuring(nproc=nproc, minbytes=minbytes, **given)
    require_one_format(form, how.json)
    if percentiles and (how.json or form != "table" or place == "both"):
        other = "--json" if how.json else f"--format {form}" if form != "table" else "--place both"
        raise InputError(f"--percentiles is a table of one placement; leave out it or {other} (records have p95_s)")
    others = ", ".join((EVERY, *OTHERS))
    names = every_collective(algorithm) if collective == EVERY else [require_collective(collective, others)]
    info, ranks = ranks_of(how.nproc, _DEFAULT_RANKS)
    run_id = _resumed(how.out, info) if resume else new_run_id()
    out = how.out or default_out(run_id, collective, Path(algorithm).stem)
    shared = how.of_job() | {"op": op, "timing": timing, "place": place, "resume": resume, "graphs": graphs}

    def plan(name: str) -> Plan:
        asked = Asked(name, algorithm, how.sizes, how.dtype, root_of(name, root, len(names)), slices, channels, group,
                      UnevenSizes(matrix, zipf))  # fmt: skip
        shape = asked.shape(ranks, _ranks_per_host(info, ranks), tell)
        return Plan(**shape, **shared, out=out, run=run_id)

    plans = tuple(plan(name) for name in names)
    if info is None and not may_find_gpus(how.backend):
        for each in plans:
            require_memory(each)
    tables: dict[str, Observer] = (
        {each.collective: NcclTestsText(each) for each in plans}
        if form == "nccl-tests"
        else {each.collective: RunTable(each, notes=each is plans[0], percentiles=percentiles) for each in plans}
    )
    shown = JsonLines() if how.json else tables[plans[0].collective] if len(plans) == 1 else InTurn(tables)
    found = run_here(plans[0] if len(plans) == 1 else Suite.of(plans), info, shown)
    if resume and not found and (info is None or info.rank == 0):
        tell("note: nothing is left to measure: the file has every size")
    require_right([record for record in found if isinstance(record, Measured)])


def _resumed(out: Path | None, info: "RankInfo | None") -> str:
    """Identifier of the last run in the file of --out; ranks that do not write there need none.

    Raises:
        InputError: no file is given, or there is no run in it.
    """
    from commbench.results.failures import FailedRun
    from commbench.results.journal import read_records
    from commbench.results.records import Measured
    from commbench.results.run_id import new_run_id

    if out is None:
        raise InputError("--resume: give --out FILE, the results file to go on in")
    if info is not None and info.rank:
        return new_run_id()
    if not out.exists():
        raise InputError(f"--resume: {out} is not there; leave --resume out to begin")
    runs = [r.run for r in read_records(out, salvage=True) if isinstance(r, Measured | FailedRun) and r.run]
    if not runs:
        raise InputError(f"--resume: {out} has no run to go on with; leave --resume out to begin")
    tell(f"note: goes on with run {runs[-1]}, which has {runs.count(runs[-1])} records there")
    return runs[-1]


def _ranks_per_host(info: "RankInfo | None", num_ranks: int) -> int:
    """Ranks on each host as the launcher says; all of them where they are started here, 1 where nobody says."""
    if info is None:
        return num_ranks
    return 1 if info.local_size is None else info.local_size
