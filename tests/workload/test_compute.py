# SPDX-License-Identifier: Apache-2.0
"""The roofline and the efficiencies: given, or from a table of measured products; nothing by default."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import log2
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.topology.devices import Device, load_device
from commbench.workload.compute import Efficiency, work_seconds
from commbench.workload.cost import hardware_flops, recomputed
from commbench.workload.formats import FORMATS
from commbench.workload.gemm_table import read_gemm_table
from commbench.workload.memory import get_precision
from commbench.workload.operator import Matmul, Operator, Work
from commbench.workload.operators import layer_operators, stage_operators
from commbench.workload.presets import get_model
from commbench.workload.stack_habits import habits_of, software_run
from commbench.workload.transformer import Execution
from tests.workload.shapes import execution

TOY = Device(name="toy", peak_flops={"bf16": 1e12}, memory_bytes_per_s=1e9, memory_bytes=10**9)
HALF = Efficiency(matrix=0.5, attention=0.25, memory=0.1)


def test_the_longer_of_two_counts() -> None:
    """1e9 FLOP at 0.5 x 1e12/s are 2 ms; 1e5 B at 0.1 x 1e9 B/s are 1 ms, 1e6 B are 10 ms."""
    shape = Matmul(1, 1, 1)
    assert work_seconds(Work(flops=10**9, num_bytes=10**5, matmul=shape), TOY, "bf16", HALF, core=False) == 2e-3
    assert work_seconds(Work(flops=10**9, num_bytes=10**6, matmul=shape), TOY, "bf16", HALF, core=False) == 1e-2
    assert work_seconds(Work(flops=10**9, num_bytes=0, matmul=shape), TOY, "bf16", HALF, core=True) == 4e-3
    assert work_seconds(Work(num_bytes=10**5), TOY, "fp64", HALF, core=False) == 1e-3
    assert work_seconds(Work(), TOY, "bf16", HALF, core=False) == 0


def pass_seconds(
    operators: Iterable[Operator], run: Execution, device: Device, efficiency: Efficiency
) -> tuple[float, float, float]:
    """Of F, I (with what is recomputed before it) and W of one microbatch."""
    ops = list(operators)

    def total(works: Callable[[Operator], Work]) -> float:
        return sum(work_seconds(works(op), device, "bf16", efficiency, core=op.core) for op in ops)

    return (
        total(lambda op: op.forward),
        total(lambda op: op.input) + total(lambda op: recomputed(op, run)),
        total(lambda op: op.weight),
    )


def test_passes_add_up() -> None:
    """On a device with endless memory bandwidth a stage takes its FLOP over the peak, and recomputation is in I."""
    device = Device(name="x", peak_flops={"bf16": 1e15}, memory_bytes_per_s=1e30, memory_bytes=10**9)
    model = get_model("gpt2-medium")
    full = Efficiency(matrix=0.5, attention=0.5, memory=1)
    for recompute in ("none", "selective", "full"):
        run = execution(model, micro_batch=4, recompute=recompute)
        forward, backward, weight = pass_seconds(
            stage_operators(model, run, range(24), first=True, last=True), run, device, full
        )
        assert forward + backward + weight == pytest.approx(hardware_flops(model, run) / 0.5e15, rel=1e-9)
        if recompute == "none":
            plain = forward, weight
        assert (forward, weight) == plain


def test_products_and_cores_have_their_own_efficiencies() -> None:
    model = get_model("llama3-8b")
    run = execution(model, flash=True, attention="causal")
    operators = stage_operators(model, run, range(1), first=False, last=False)
    device = load_device("h100-sxm5-80gb")
    fast, slow = (
        pass_seconds(operators, run, device, Efficiency(matrix=0.7, attention=a, memory=0.8)) for a in (0.6, 0.3)
    )
    core = next(op for op in operators if op.core)
    gained = core.forward.flops / device.peak("bf16") * (1 / 0.3 - 1 / 0.6)
    assert slow[0] - fast[0] == pytest.approx(gained, rel=1e-9)
    assert slow[2] == fast[2]


def test_what_a_product_costs_in_fp8_is_worked_out_by_hand() -> None:
    """Up to 8 bits, results in 16: 1 byte an operand, 2 a result, and 2 + 1 + 1 for each that is cast, as it
    stands and the other way round. Router, logits, cores and whatever is kept are those of BF16.
    """
    model = get_model("mixtral-8x7b")
    wide, narrow = (
        {op.name: op for op in stage_operators(model, run, range(1), first=True, last=True)}
        for run in (execution(model, flash=True), execution(model, flash=True, formats=FORMATS["fp8"]))
    )
    t, k, n = model.sequence, 4096, 4096 + 2 * 1024
    qkv = narrow["qkv"]
    assert (qkv.forward.num_bytes, qkv.forward.cast_bytes) == (t * k + k * n + 2 * t * n, 4 * (t * k + k * n))
    assert (qkv.input.num_bytes, qkv.input.cast_bytes) == (t * n + k * n + 2 * t * k, 4 * t * n)
    assert (qkv.weight.num_bytes, qkv.weight.cast_bytes) == (t * k + t * n + 2 * k * n, 0)
    assert {name for name, op in narrow.items() if op != wide[name]} == {
        "qkv", "projection", "expert-up", "expert-down"
    }  # fmt: skip
    assert all(op.saved_bytes == wide[name].saved_bytes for name, op in narrow.items())
    work = Work(flops=10**9, num_bytes=10**5, matmul=Matmul(1, 1, 1), cast_bytes=10**5)
    assert work_seconds(work, TOY, "bf16", HALF, core=False) == 3e-3  # 1 ms of casting, then 2 ms
    once = replace(HALF, casts=1.0)  # of the bandwidth, whatever the software moves twice
    assert work_seconds(work, TOY, "bf16", once, core=False) == pytest.approx(2.1e-3)


def test_software_that_keeps_weights_in_fp8_and_sums_in_products_casts_inputs_and_writes_sums() -> None:
    """Weights are cast in the optimizer's time; the weight gradient reads and writes the sums of 4 bytes each."""
    model = get_model("llama2-7b")
    run = execution(model, flash=True, formats=FORMATS["fp8"])
    own = software_run(run, habits_of("megatron-core"), get_precision("megatron-bf16"))
    t, k, n = model.sequence, 4096, 3 * 4096
    qkv, plain = (next(op for op in layer_operators(model, one) if op.name == "qkv") for one in (own, run))
    assert (plain.forward.cast_bytes, qkv.forward.cast_bytes) == (4 * (t * k + k * n), 4 * t * k)
    assert (plain.weight.num_bytes, qkv.weight.num_bytes) == (t * k + t * n + 2 * k * n, t * k + t * n + 8 * k * n)
    assert software_run(run, habits_of("megatron"), get_precision("megatron-bf16")) == run


def table(path: Path, rows: list[tuple], *, lines: bool = False) -> Path:
    keys = ("m", "n", "k", "dtype", "device", "seconds")
    if lines:
        text = "\n".join(json.dumps({"kind": "gemm", **dict(zip(keys, row, strict=True))}) for row in rows)
    else:
        text = "\n".join([",".join(keys), *(",".join(map(str, row)) for row in rows)])
    path.write_text(text + "\n")
    return path


def row(size: int, efficiency: float, device: str = "toy", dtype: str = "bf16") -> tuple:
    """A cube that reaches an efficiency of the toy's 1e12 FLOP/s."""
    return (size, size, size, dtype, device, 2 * size**3 / (efficiency * 1e12))


@pytest.mark.parametrize("lines", [False, True])
def test_table(tmp_path: Path, lines: bool) -> None:
    rows = [row(1024, 0.2), row(4096, 0.8), row(4096, 0.1, device="other"), row(4096, 0.1, dtype="fp16")]
    efficiency = read_gemm_table(table(tmp_path / "gemm", rows, lines=lines), TOY, "bf16")
    assert efficiency(Matmul(1024, 1024, 1024)) == pytest.approx(0.2)
    assert efficiency(Matmul(4096, 4096, 4096)) == pytest.approx(0.8)
    assert efficiency(Matmul(2048, 2048, 2048)) == pytest.approx(0.5)  # as far from the one as from the other
    near = [sum((log2(x) - log2(s)) ** 2 for x in (4096, 4096, 2048)) ** -2 for s in (1024, 4096)]  # distance^-4
    assert efficiency(Matmul(4096, 4096, 2048)) == pytest.approx((near[0] * 0.2 + near[1] * 0.8) / sum(near))


def test_table_takes_the_median_of_repeats(tmp_path: Path) -> None:
    rows = [row(1024, 0.5), row(1024, 0.4), row(1024, 0.01)]
    efficiency = read_gemm_table(table(tmp_path / "gemm.csv", rows), TOY, "bf16")
    assert efficiency(Matmul(1024, 1024, 1024)) == pytest.approx(0.4)


def test_table_is_not_stretched(tmp_path: Path) -> None:
    path = table(tmp_path / "gemm.csv", [row(1024, 0.2), row(4096, 0.8)])
    efficiency = read_gemm_table(path, TOY, "bf16")
    for inside in (512, 8192):
        assert 0.2 < efficiency(Matmul(inside, 2048, 2048)) < 0.8
    for outside in (511, 8193):
        with pytest.raises(InputError) as error:
            efficiency(Matmul(2048, outside, 2048))
        assert str(error.value) == (
            f"{path}: product 2048 x {outside} x 2048: n = {outside} is more than a factor of 2 outside the measured "
            "1024..4096"
        )


def test_a_table_as_efficiency(tmp_path: Path) -> None:
    matrix = read_gemm_table(table(tmp_path / "gemm.csv", [row(64, 0.5), row(4096, 0.5)]), TOY, "bf16")
    work = Work(flops=10**9, matmul=Matmul(512, 512, 512))
    given = Efficiency(matrix=matrix, attention=0.1, memory=0.1)
    assert work_seconds(work, TOY, "bf16", given, core=False) == pytest.approx(2e-3)


HEADER = "m,n,k,dtype,device,seconds\n"
BAD_TABLES = [
    (HEADER + "64,64,64,bf16,other,1\n", "no product of device toy and dtype bf16; it has other bf16"),
    (HEADER, "no product of device toy and dtype bf16; it has nothing"),
    (HEADER + "64,64,64,bf16,toy,0\n", "line 2: seconds = '0' must be a number above 0"),
    (HEADER + "64,6.5,64,bf16,toy,1\n", "line 2: n = '6.5' must be a number above 0, whole"),
    (HEADER + "64,64,inf,bf16,toy,1\n", "line 2: k = 'inf' must be a number above 0 and at most 2147483647, whole"),
    (HEADER + "64,64,nan,bf16,toy,1\n", "line 2: k = 'nan' must be a number above 0, whole"),
    (HEADER + "64,64,64,bf16,toy\n", "line 2: seconds is missing; a record has m, n, k, dtype, device, seconds"),
    ("m,n,k,dtype,seconds\n64,64,64,bf16,1\n", "line 2: device is missing; a record has m, n, k, dtype, device, "
     "seconds"),
    ('{"m": 64\n', "line 1: is not JSON"),
    ('{"m": ' + "9" * 5000 + ', "n": 1, "k": 1, "dtype": "bf16", "device": "toy", "seconds": 1}\n',
     "line 1: m = inf must be a number above 0 and at most 2147483647, whole"),
    ('{"m": ' + "9" * 400 + ', "n": 1, "k": 1, "dtype": "bf16", "device": "toy", "seconds": 1}\n',
     "line 1: m = inf must"),
    ('{"m": true, "n": 1, "k": 1, "dtype": "bf16", "device": "toy", "seconds": 1}\n', "line 1: m = True must"),
    ('{"m": 1, "m": 2}\n', "line 1: is not JSON of a record: a key stands twice in one object"),
    ('{"m": ' + "[" * 5000 + "]" * 5000 + "}\n", "line 1: is not JSON of a record: lists or objects stand inside each "
     "other too deep"),
    ("m,n,k,m,dtype,device,seconds\n", "line 1: column 'm' stands twice; keep one"),
    (HEADER + "64,64," + "6" * 200_000, "is no CSV: field larger than field limit (131072)"),
    (HEADER + "1e300,1e300,64,bf16,toy,1\n",
     "line 2: m = '1e300' must be a number above 0 and at most 2147483647, whole"),
    (HEADER + "64,64,64,bf16,toy,1e9\n", "product 64 x 64 x 64 reaches 5.24e-16 of the peak of toy in bf16; at least "
     "1e-12 is expected, of times in seconds"),
    ('{"m": 64, "n": 64}\n', "line 1: k is missing; a record has m, n, k, dtype, device, seconds"),
    (HEADER + "1024,1024,1024,bf16,toy,1e-3\n", "product 1024 x 1024 x 1024 reaches 2.15 of the peak of toy in bf16; "
     "at most 1 is possible"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_TABLES)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gemm.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_gemm_table(path, TOY, "bf16")
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_gemm_table(tmp_path / "none.csv", TOY, "bf16")


@pytest.mark.parametrize(("key", "value"), [("matrix", 1.5), ("memory", 0), ("memory", 1e-320), ("attention", -0.1)])
def test_bad_efficiencies(key: str, value: float) -> None:
    given = {"matrix": 0.5, "attention": 0.4, "memory": 0.8} | {key: value}
    with pytest.raises(InputError, match=f"efficiency {key} = {value} must be from 1e-06 to 1 .--{key}-efficiency.$"):
        Efficiency(**given)
