# SPDX-License-Identifier: Apache-2.0
"""A transformer block shared by live ranks: right gradients, and the bytes of the formula; products and overlap."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.live.job import TensorParallelJob
from commbench.live.measure import run_job
from commbench.results.journal import read_records
from commbench.results.records import Measured
from commbench.results.tensor_parallel_records import TensorParallelMeasured
from commbench.topology.devices import Device
from commbench.workload.formats import FORMATS
from commbench.workload.gemm_table import read_gemm_table
from commbench.workload.operator import Matmul
from commbench.workload.traffic import layer_traffic
from commbench.workload.transformer import Execution, Transformer
from tests.workload.shapes import moved_bytes

torch = pytest.importorskip("torch")
live = pytest.mark.live
ROOT = Path(__file__).parents[2]


def predicted(record: TensorParallelMeasured) -> list[tuple[str, int]]:
    """Collectives of one layer as simulations of training steps have them."""
    model = Transformer(
        name="block", source="test", num_layers=1, hidden=record.hidden, num_heads=record.heads,
        num_kv_heads=record.heads, head_size=record.hidden // record.heads, ffn=record.ffn, vocab=1,
        sequence=record.sequence, positions=0, gated=False, biases=False, tied=False, dropout=False,
    )  # fmt: skip
    run = Execution(
        micro_batch=record.micro_batch, sequence=record.sequence, formats=FORMATS["fp32"], attention="causal",
        flash=True, recompute="none", tp=record.ranks, sequence_parallel=record.sequence_parallel, keep_gathered=True,
    )  # fmt: skip
    traffic = layer_traffic(model, run)
    assert moved_bytes(traffic, record.ranks) == record.formula_bytes
    return sorted((one.collective, one.size_bytes) for one in traffic)


def check_alone(records: list[Measured], ranks: int, message_bytes: int) -> None:
    """All-reduces of a quarter to four times the block's size, right, and with every sample."""
    assert [record.size_bytes for record in records] == [message_bytes // 4, message_bytes, 4 * message_bytes]
    for record in records:
        assert (record.collective, record.algorithm, record.ranks, record.wrong) == ("all-reduce", "native", ranks, 0)
        shape = [len(row) for row in record.samples_s]
        assert shape == [2 * 2 * 2] * ranks  # two of each in a round, a round with every second way of both iterations
        assert [len(row) for row in record.phases_s["wait"]] == shape
        for waits in zip(*record.phases_s["wait"], strict=True):
            assert min(waits) == 0
        assert all(len(row) == shape[0] // 2 for phase in ("call", "copy") for row in record.phases_s[phase])


def check_spans(record: TensorParallelMeasured, every: list[tuple[str, int]]) -> None:
    """Every call of every rank in both iterations, in time, inside the iteration."""
    assert record.clock == "shared"
    assert all(min(starts) == 0 for starts in zip(*record.starts_s, strict=True))
    for number, iteration in enumerate(record.spans):
        for rank, spans in enumerate(iteration):
            assert sorted((collective, size_bytes) for collective, size_bytes, *_ in spans) == every
            for _, _, begin, called, wait, end in spans:
                assert 0 < begin < called <= wait < end <= record.samples_s[rank][number]


@live
@pytest.mark.parametrize(("ranks", "hidden", "heads"), [(2, 24, 4), (3, 24, 6)])
def test_bytes_are_the_formula_and_gradients_those_of_the_whole_block(
    ranks: int, hidden: int, heads: int, tmp_path: Path
) -> None:
    job = TensorParallelJob(
        ranks=ranks, out=tmp_path / "r.jsonl", run="r", backend="gloo", iters=2, hidden=hidden, heads=heads,
        ffn=60, sequence=12, micro_batch=2, timeout_s=60.0,
    )  # fmt: skip
    everything = run_job(job)
    alone = [record for record in everything if isinstance(record, Measured)]
    check_alone(alone, ranks, 4 * 2 * 12 * hidden)
    records = [record for record in everything if isinstance(record, TensorParallelMeasured)]
    assert [*alone, *records] == everything
    assert [(r.method, r.sequence_parallel) for r in records] == [
        ("hand", False), ("dtensor", False), ("hand", True), ("dtensor", True),
    ]  # fmt: skip
    for record in records:
        # 8 b s h e (t-1)/t
        assert record.moved_bytes_times_ranks == 8 * 2 * 12 * hidden * 4 * (ranks - 1)
        assert record.bytes_ok
        assert record.largest_error is not None
        assert record.largest_error <= 1e-12
        every = [
            (count.collective, count.size_bytes // count.calls) for count in record.counts for _ in range(count.calls)
        ]
        assert sorted(every) == predicted(record)
        assert 0 < record.exposed_s <= record.time_s
        check_spans(record, sorted(every))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranks": 3}, "--heads 8 is not divisible by tp 3"),
        ({"ranks": 2, "ffn": 1023}, "--ffn 1023 is not divisible by tp 2"),
        ({"ranks": 4, "sequence": 130}, "--sequence 130 is not divisible by tp 4, as sequence parallelism needs"),
        ({"ranks": 2, "hidden": 100, "heads": 8}, "--hidden 100 is not divisible by --heads 8"),
        ({"ranks": 2, "dtype": "int8"}, "--dtype 'int8' is unknown"),
        ({"ranks": 2, "micro_batch": 0}, "--micro-batch 0 must be at least 1"),
    ],
)
def test_what_cannot_be_split_is_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    block = {"hidden": 256, "heads": 8, "ffn": 1024, "sequence": 128, "micro_batch": 2}
    with pytest.raises(InputError) as caught:
        TensorParallelJob(out=tmp_path / "r.jsonl", run="r", **block | options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_meter_refuses_collectives_that_it_does_not_count() -> None:
    from commbench.live.collective_meter import CollectiveMeter
    from commbench.live.timing import clock_of

    meter = CollectiveMeter(2, clock_of(torch.device("cpu")))
    with meter, pytest.raises(AssertionError, match="is a collective that is not counted"):
        torch.ops._c10d_functional.all_gather_into_tensor_coalesced([torch.zeros(2)], 2, "none")


def test_a_meter_has_the_marks_of_every_call_and_of_its_wait() -> None:
    """Marks are 0, 1, 2 ...: a call under way while another one is made, and a wait that comes twice."""
    from commbench.live.collective_meter import CollectiveMeter
    from commbench.live.timing import Clock

    marks = itertools.count()
    meter = CollectiveMeter(4, Clock(lambda: next(marks), lambda a, b: float(b - a), lambda: None, lambda mark: None))
    first, second = torch.zeros(4), torch.zeros(2)
    operations = torch.ops._c10d_functional
    origin = next(marks)
    with meter:
        for data, operation in ((first, operations.all_reduce_), (second, operations.all_gather_into_tensor)):
            meter.__torch_dispatch__(_Handed(operation, data), (), (data,))
        for data in (second, first, first):
            meter.__torch_dispatch__(_Handed(operations.wait_tensor, data), (), (data,))
    assert meter.spans(origin) == (
        ("all-reduce", 16, 1.0, 2.0, 7.0, 8.0), ("all-gather", 32, 3.0, 4.0, 5.0, 6.0),
    )  # fmt: skip
    assert [(count.collective, count.calls, count.size_bytes) for count in meter.counts()] == [
        ("all-gather", 1, 32), ("all-reduce", 1, 16),
    ]  # fmt: skip


class _Handed:
    """An operator that sends nothing and gives back its input."""

    def __init__(self, packet: object, data: object) -> None:
        self._overloadpacket, self._data = packet, data
        self.namespace, self._opname = "_c10d_functional", str(packet)

    def __call__(self, *args: object) -> object:
        return self._data


def commbench(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "commbench", "run", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_table_of_products_is_what_simulations_read(tmp_path: Path) -> None:
    options = ["--shape", "64x32x16", "--shape", "16x16x16", "--threads", "1", "--peak", "5 TFLOP/s", "--on", "cpu"]
    done = commbench("gemm", *options, "--device", "toy", "-n", "3", "--json", "--out", "table.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["m"], line["n"], line["k"], line["device"]) for line in lines] == [
        (64, 32, 16, "toy"), (16, 16, 16, "toy"),
    ]  # fmt: skip
    for line in lines:
        assert line["flops"] == pytest.approx(2 * line["m"] * line["n"] * line["k"] / line["seconds"])
        assert line["efficiency"] == pytest.approx(line["flops"] / 5e12)
    toy = Device(name="toy", peak_flops={"fp32": 5e12}, memory_bytes_per_s=1e9, memory_bytes=1)
    table = read_gemm_table(tmp_path / "table.jsonl", toy, "fp32")
    assert table(Matmul(64, 32, 16)) == pytest.approx(lines[0]["efficiency"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gemm", "--shape", "64x64"], "--shape '64x64' must be MxNxK"),
        (["gemm", "--shape", "0x1x1"], "--shape '0x1x1' must be MxNxK"),
        (["gemm", "--peak", "5 W"], "--peak: '5 W' is not a rate of computing"),
        (["gemm", "--dtype", "tf32", "--on", "cpu"], "--dtype tf32 is a way in which CUDA devices round"),
        (["gemm", "--model", "gpt2", "--shape", "1x1x1"], "--model gpt2 has no meaning with --shape"),
        (["overlap", "-b", "3"], "-b 3 bytes must be one or more whole elements"),
        (["pipeline", "--nproc", "0"], "--nproc 0 must be at least 1"),
        (["tensor-parallel", "--method", "mpi"], "--method 'mpi' is unknown; known: hand, dtensor, both"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = commbench(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert done.stdout == ""


@live
def test_the_command_simulates_what_it_measured_and_a_threshold_fails(tmp_path: Path) -> None:
    options = ["--nproc", "2", "--hidden", "16", "--sequence", "8", "--micro-batch", "4", "--method", "hand"]
    more = ["--iters", "3", "--warmup", "1", "--json", "--max-error", "0", "--out", "r.jsonl"]
    done = commbench("tensor-parallel", *options, *more, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "error: tensor parallelism by hand, sequence parallel no: " in done.stderr
    assert "is more than 0.0%" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    of_a_block = ["tensor-parallel", "tensor-parallel-simulated", "tensor-parallel-compared"]
    assert [line["kind"] for line in lines] == ["measured"] * 3 + of_a_block * 2
    for measured, simulated, compared in (lines[3:6], lines[6:9]):
        assert "spans" not in measured
        assert compared["measured_s"] == measured["exposed_s"]
        assert compared["simulated_s"] == simulated["exposed_s"]
        assert compared["error"] == pytest.approx(simulated["exposed_s"] / measured["exposed_s"] - 1)
        assert compared["ok"] is False
        assert measured["environment"]["memory_kept"] in (True, False)
    kept = read_records(tmp_path / "r.jsonl")
    assert sorted(record.kind for record in kept) == sorted(line["kind"] for line in lines)


@live
def test_overlap_gives_both_slowdowns(tmp_path: Path) -> None:
    options = ["--nproc", "2", "-m", "256", "-n", "256", "-k", "256", "-b", "1M", "--iters", "3", "--warmup", "1"]
    done = commbench("overlap", *options, "--json", "--out", "r.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["kind"] == "overlap"
    for name in ("product", "collective"):
        assert line[f"{name}_slowdown"] == pytest.approx(line[f"{name}_beside_time_s"] / line[f"{name}_alone_time_s"])
        assert [len(row) for row in line[f"{name}_beside_s"]] == [3, 3]
