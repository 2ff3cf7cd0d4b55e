# SPDX-License-Identifier: Apache-2.0
"""Every reader of the package: whole inputs to damage, how they are read, and what must hold of what was accepted.

A reader takes the path of a file, raises a CommbenchError or returns "", or what is nonsense in what it accepted.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from commbench.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
_MOST = 2**24  # ranks, chunks, stages that a few lines may ask for
Reader = Callable[[Path], str]
_ANY_SIGN = ("error", "points", "environment", "groups", "bubble_clock_free")


def _numbers(value: Any) -> Iterator[float]:
    """Every number in what JSON can hold."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float):
        yield value


def _wrong(name: str, values: Sequence[float], least: float = 0, most: float = 1e30) -> str:
    bad = [v for v in values if not math.isfinite(v) or not least <= v <= most]
    return f"{name} {bad[0]!r} is outside {least}..{most}" if bad else ""


def results(path: Path) -> str:
    import json

    from commbench.results.frame import table
    from commbench.results.journal import read_records

    records = read_records(path)
    for record in records:
        data = json.loads(record.to_json())
        least = -math.inf if "idle_s" in data or "seed" in data else -1e-3
        kept = {k: v for k, v in data.items() if k not in _ANY_SIGN}
        if wrong := _wrong(record.kind, list(_numbers(kept)), least):
            return wrong
    table([("x", record) for record in records], "csv")
    return ""


def page(path: Path) -> str:
    from commbench.report.page import ReportInput, render
    from commbench.results.journal import read_records

    if records := read_records(path):
        text = render(ReportInput("fuzz", records))
        return "control characters on the page" if any(ord(c) < 32 and c not in "\n\t\r" for c in text) else ""
    return ""


def topology(path: Path) -> str:
    from commbench.topology.load import load_fabric

    fabric = load_fabric(path)
    rates = [float(rate) for rate in fabric.bandwidths]
    return _wrong("ranks", [fabric.num_ranks], 1, _MOST) or _wrong("bandwidth", rates, 1e-3, 1e18)


def device(path: Path) -> str:
    from commbench.topology.devices import load_device

    found = load_device(path)
    rates = [*found.peak_flops.values(), found.memory_bytes_per_s]
    sizes = [found.memory_bytes - found.others.get("memory_margin", 0), *found.others.values()]
    return _wrong("rate", rates, 1e-3, 1e21) or _wrong("size", sizes, 0, 2**63)


def scenario(path: Path) -> str:
    from commbench.lowering.scenario import Scenario

    faults = Scenario.load(path).faults
    factors = [f.factor for f in faults if hasattr(f, "factor")]
    return _wrong("at_ps", [f.at_ps for f in faults], 0, 2**63) or _wrong("factor", factors, 0, 1e6)


def step(path: Path) -> str:
    from commbench.experiments.step_given import read_options
    from commbench.experiments.step_options import simulate_options

    record = simulate_options(read_options(path, {}))
    times = [record.iteration_s, *record.time_s.values(), *record.exposed_s.values()]
    counts = [record.ranks, record.global_batch, record.sequence]
    return _wrong("ranks, batch, sequence", counts, 1, _MOST) or _wrong("seconds", times, -1e-9, 1e9)


def experiment(path: Path) -> str:
    """What a file asks for; each run of it is then a step or a collective as other options are."""
    from commbench.experiments.claim import QUANTITIES, read_claim
    from commbench.experiments.file import MOST_RUNS, read_experiment

    claim = read_claim(path)
    if claim is not None and claim.quantity not in (*QUANTITIES, "groups"):
        return f"a claim of {claim.quantity}"
    runs = read_experiment(path)
    kinds = {type(run.options).__name__ for run in runs} - {"CollectiveOptions", "StepOptions"}
    return f"runs of {kinds}" if kinds else _wrong("runs", [len(runs)], 1, MOST_RUNS)


def trace(path: Path) -> str:
    from commbench.workload.traces.read import read_trace
    from commbench.workload.traces.recorded import program_of

    found = read_trace(path)
    program = program_of(found, found.world if 0 < found.world < 2**12 else 8)
    lasts = [duration for one in found.operations for duration in (one.duration_ps, one.delay_ps)]
    return _wrong("picoseconds", lasts, 0, 2**62) or _wrong("operations", [program.num_operations], 1, _MOST)


def _algorithm(path: Path) -> str:
    from commbench.collectives.algorithms.load import load_file

    schedule = load_file(path)
    return _wrong("ranks, chunks", [schedule.num_ranks, schedule.num_chunks], 1, _MOST)


def pipeline(path: Path) -> str:
    from commbench.workload.pipeline.text import read_pipeline

    found = read_pipeline(path)
    return _wrong("ranks, stages", [found.num_ranks, found.num_stages, found.num_microbatches], 1, _MOST)


def gemm(path: Path) -> str:
    from commbench.topology.devices import load_device
    from commbench.workload.gemm_table import read_gemm_table

    efficiencies = read_gemm_table(path, load_device("h100-sxm5-80gb"), "bf16").efficiencies
    return _wrong("m, n, k", [v for shape in efficiencies for v in shape], 1, 2**53) or _wrong(
        "efficiency", list(efficiencies.values()), 1e-12, 1
    )


def lab_state(path: Path) -> str:
    from commbench.emulate.state import list_testbeds

    labs = list_testbeds(path.parent)
    return _wrong("pid", [p.pid for lab in labs for p in (lab.owner, *lab.processes)], 2, 2**31)


def quantity(path: Path) -> str:
    """What options and YAML values are read by."""
    from commbench.errors import CommbenchError
    from commbench.units import parse_bandwidth, parse_duration_ps, parse_size

    text = path.read_text(errors="surrogateescape")
    for parse in (parse_bandwidth, parse_duration_ps, parse_size):
        try:
            value = parse(text)
        except CommbenchError:
            continue
        if wrong := _wrong(parse.__name__, [value]):
            return wrong
    return ""


def log(path: Path) -> str:
    """Logs of nccl-tests: what is accepted can be kept and read again."""
    from commbench.results.kinds import record_from_json
    from commbench.results.logs import read_log

    found = read_log(path, None, None)
    try:
        same = all(record_from_json(one.to_json(), "x") == one for one in found.records)
    except InputError as error:
        return f"a record that is refused: {error}"
    rates = [one.algbw_GBps or 0.0 for one in found.records]
    return ("" if same else "a record that is not read back") or _wrong("algbw", rates, 0, 1e18)


def imported(path: Path) -> str:
    """Files of NCCL, ibnetdiscover, Slurm, nvidia-smi and InfraGraph: a topology that they give loads."""
    from commbench.topology.imports import import_topology
    from commbench.topology.load import load_fabric

    found = import_topology(path, bandwidth="100 Gbit/s")
    if not found.text:
        return "" if found.why_none else "neither a topology nor why there is none"
    made = path.with_suffix(".yaml")
    made.write_text(found.text, encoding="utf-8")
    fabric = load_fabric(made)
    return _wrong("ranks", [fabric.num_ranks], 1, _MOST) or _wrong("bandwidth", fabric.bandwidths.tolist(), 1e-3, 1e18)


class _Enough(Exception):  # noqa: N818
    """The first piece of work was allowed and done; what follows is more of the same."""


def options(path: Path) -> str:
    """Numbers and sizes on command lines, a word a line: bounds must refuse what would not end.

    What is simulated ends behind its first size, ranks are never started, and the machine has 1 GiB.
    """
    import contextlib
    import io
    from unittest.mock import patch

    from commbench.cli.main import outcome

    def once(work: Any) -> Any:
        def first(*given: Any, **named: Any) -> Any:
            work(*given, **named)
            raise _Enough

        return first

    def start(*_: Any) -> Any:
        raise _Enough

    from commbench.cli import run
    from commbench.collectives import memory
    from commbench.experiments import simulated
    from commbench.sim import collective, crossover

    words = path.read_text(errors="surrogateescape").replace("\0", "").splitlines()
    if "--out" in words or words[:1] not in (["sim"], ["run"], ["algorithm"], ["topology"], ["device"]):
        return ""
    shown, said = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with (
        patch.object(simulated, "simulate_collective", once(collective.simulate_collective)),
        patch.object(crossover, "simulate_collective", once(crossover.simulate_collective)),
        patch.object(run, "run_here", start),
        patch.object(memory, "memory_bytes", lambda: 2**30),
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(said),
        contextlib.suppress(_Enough),
    ):
        code = outcome(words)
        lines = said.getvalue().splitlines()
        if code and not any(line.startswith(("error: ", "Usage: ")) and line[7:].strip() for line in lines):
            return f"exit code {code} without an error"
        if code:
            raise InputError(lines[-1].encode(errors="backslashreplace").decode())  # as stderr does
    return ""


_COMMANDS = (
    "sim all-reduce -t star-8 -b 1K -e 4K -f 2 -g 4 --slices 2 --channels 2 --seed 1 --jitter 0.1",
    "sim reduce -t fat-tree-16 -a 4-ary-tree -b 8 -e 64M -i 8M --root 3 --group 2 --ranks-per-host 1 --detail folded",
    "sim all-to-all -t dgx-h100-x2 -b 1M --jobs 2 --placement random --routing ecmp --seed 7 --links",
    "sim train --model gpt3-1.3b --topology dgx-h100 --tp 2 --dp 4 --microbatch 1 --global-batch 8 --sequence 512"
    " --device h100-sxm5-80gb --assume-efficiencies --slowdown 1.5 --jitter 0.1 --seed 1 --bucket 25M --zero 1",
    "run all-reduce --nproc 2 -b 8 -e 4K -i 8 --iters 5 --warmup 1 -a ring --slices 2 --channels 2 --group 1"
    " --timeout 10 --join-timeout 20",
    "run broadcast --nproc 3 -b 1K -f 1.5 --root 1 -d half",
    "algorithm show ring --ranks 4 --slices 2 --channels 2 --group 1",
    "algorithm show binomial --ranks 8 --root 2 --text",
    "algorithm crossover -t star-8 --ranks 2,4 -b 1K -e 4K --channels 1,2 --slices 4 --seed 1",
    "topology new --hosts 64 --gpus 8 --rails 8 --tiers 3 --oversubscription 2:1",
    "topology new --hosts 16 --tiers 2 --oversubscription 1.5",
    "device show h100-sxm5-80gb --json",
)


def _records() -> list[bytes]:
    from commbench.results.journal import read_records
    from tests.report import samples
    from tests.results.test_journal import COMPARED, SIMULATED, SUMMARY, measured

    files = (ROOT / f"reports/{name}.jsonl" for name in ("pipeline/runs", "tensor-parallel/five-runs"))
    kinds = {r.kind: r for file in files for r in read_records(file)}
    small = [r for r in kinds.values() if len(r.to_json()) < 40_000]
    texts = [r.to_json() for r in (measured(), SIMULATED, COMPARED, SUMMARY, samples.measured(), *small)]
    return [text.encode() + b"\n" for text in [*texts, "\n".join(texts[:4]), _STEP_RECORD, _GEMM]]


_STEP_RECORD = (
    '{"kind": "simulated-step", "schema": 1, "model": "m", "topology": "t", "device": "d", "dtype": "bf16", '
    '"ranks": 2, "tp": 1, "cp": 1, "ep": 1, "dp": 1, "pp": 2, "schedule": "1f1b", "stages_per_rank": 1, '
    '"microbatches": 2, "micro_batch": 1, "global_batch": 2, "sequence": 8, "zero": 0, "recompute": "none", '
    '"sequence_parallel": false, '
    '"attention": "causal", "efficiency": {"matrix": 0.5, "attention": 0.5, "memory": 0.5}, "slowdown": 1.0, '
    '"iteration_s": 1.0, "model_flops": 100, "hardware_flops": 120, "peak_flops": 1e12, "bubble_of_ideal": 0.5, '
    '"bubble_of_total": 0.33, "time_s": {"forward": 0.4, "idle": 0.6}, "exposed_s": {"pipeline": 0.1}, '
    '"critical_s": {"forward": 1.0}, "memory_bytes": {"weights": 8}, '
    '"memory_by_position": [{"weights": 8}, {"weights": 8}], "capacity_bytes": 16, '
    '"busiest_links": [{"joins": "a -> b", "link": "l", "bytes": 1.0, "utilisation": 0.1, '
    '"links": 1, "mean_utilisation": 0.1}], "folded": "nothing", "notes": ["n"], '
    '"routing": "ecmp", "placement": "linear", '
    '"engine": "compiled", "scenario": "", "seed": 0, "operations": 4, "wall_s": 0.1, "positions": [0, 1], '
    '"spans": [[0, 0, "F", 0, 0.0, 0.4], [1, 1, "F", 0, 0.4, 0.8]]}'
)
_GEMM = (
    '{"kind": "gemm", "schema": 1, "seconds": 1e-3, "run": "r", "m": 64, "n": 64, "k": 64, "dtype": "bf16", '
    '"device": "h100-sxm5-80gb", "samples_s": [1e-3, 2e-3], "peak_flops": 9.89e14, "peak_source": "sheet", '
    '"started_at": "2026-01-01T00:00:00+00:00", "environment": {}}'
)
_STEP = (
    b"model: gpt3-1.3b\ntopology: dgx-h100-x2\ntp: 4\npp: 2\ndp: 2\nmicrobatch: 1\nglobal-batch: 8\nschedule: 1f1b\n"
    b"device: h100-sxm5-80gb\nmatrix-efficiency: 0.6\nattention-efficiency: 0.6\nmemory-efficiency: 0.8\n"
    b"seed: 1\nsequence: 512\n"
)
_STATE = (
    b'{"lab": "cb12", "owner": {"pid": 4194000, "started": 1, "what": "commbench"}, "processes": [{"pid": 4194001, '
    b'"started": 2, "what": "rank"}], "namespaces": ["cb12-h0", "cb12-h1"]}'
)


def _schedules() -> dict[str, list[bytes]]:
    from commbench.collectives.msccl_write import to_msccl
    from commbench.collectives.registry import build_schedule
    from commbench.collectives.text import to_text

    made = [build_schedule("all-reduce", name, 4) for name in ("ring", "double-binary-tree")]
    return {"text": [to_text(one).encode() for one in made], "xml": [to_msccl(one).encode() for one in made]}


def _logs() -> list[bytes]:
    from tests.results.test_logs import LAYOUTS, POINTS, nccl_json, rccl_rows
    from tests.results.test_logs import log as made

    texts = [*(made(one, POINTS) for one in LAYOUTS.values()), json.dumps(nccl_json()), rccl_rows()]
    return [text.encode() for text in texts]


def _imports() -> list[bytes]:
    from tests.topology.test_imports import WHOLE

    return [text.encode() for text in WHOLE]


def _traces() -> list[bytes]:
    from tests.workload.test_traces import CHAKRA, STEP, binary, chakra, kineto

    return [json.dumps(kineto(*STEP), indent=1).encode(), chakra(*CHAKRA).encode(), binary(*CHAKRA)]


def _infragraphs() -> list[bytes]:
    from tests.topology.test_import_infragraph import WHOLE

    return [text.encode() for text in WHOLE]


def readers() -> list[tuple[str, str, Reader, list[bytes]]]:
    """(name, name of the file, reader, whole inputs); a topology file is also what ``calibrate`` writes."""
    from commbench.workload.pipeline.registry import build_pipeline
    from commbench.workload.pipeline.text import to_csv

    files = ("star-8", "fat-tree-16", "shared-memory-4", "dgx-h100-x2", "two-rail-8", "oam-mesh")
    devices = [path.read_bytes() for path in sorted((ROOT / "topologies" / "devices").glob("*.yaml"))]
    topologies = [(ROOT / f"topologies/{name}.yaml").read_bytes() for name in files]
    scripts = [path.read_bytes() for path in sorted((ROOT / "sims").glob("*.yaml"))]
    folders = ("experiments", "claims")
    experiments = [path.read_bytes() for name in folders for path in sorted((ROOT / "sims" / name).glob("*.yaml"))]
    orders = [to_csv(build_pipeline(name, 2, 4)).encode() for name in ("1f1b", "zb-h1")]
    records, schedules = _records(), _schedules()
    return [
        ("results", "input.jsonl", results, records),
        ("page", "input.jsonl", page, records),
        ("topology", "input.yaml", topology, topologies),
        ("device", "input.yaml", device, devices),
        ("scenario", "input.yaml", scenario, scripts),
        ("step", "input.yaml", step, [_STEP]),
        ("experiment", "input.yaml", experiment, experiments),
        ("schedule", "input.txt", _algorithm, schedules["text"]),
        ("msccl", "input.xml", _algorithm, schedules["xml"]),
        ("pipeline", "input.csv", pipeline, orders),
        ("gemm", "input.jsonl", gemm, [_GEMM.encode(), b"device,dtype,m,n,k,seconds\nh100-sxm5-80gb,bf16,64,64,64,1e-3\n"]),  # noqa: E501
        ("lab-state", "cb12.json", lab_state, [_STATE]),
        ("options", "input.txt", options, [command.replace(" ", "\n").encode() for command in _COMMANDS]),
        ("log", "input.log", log, _logs()),
        ("imported", "input.txt", imported, _imports()),
        ("trace", "input.json", trace, _traces()),
        ("infragraph", "input.txt", imported, _infragraphs()),
        ("quantity", "input.txt", quantity, [b"100 Gbit/s", b"20 us", b"64K", b"1.5 GB/s"]),
    ]
