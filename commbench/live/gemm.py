# SPDX-License-Identifier: Apache-2.0
"""How fast one device multiplies matrices, shape by shape; one process, no ranks."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from commbench.errors import CheckFailedError, InputError
from commbench.live.timing import Clock, clock_of
from commbench.results.device_records import GemmMeasured
from commbench.results.environment import collect_environment

__all__ = ["DTYPES", "GemmPlan", "measure_gemm", "product_of"]

DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""Element types as data sheets spell them; tf32 is float32 rounded inside the product (CUDA only)."""

_LEAST_S = 2e-3  # a sample lasts at least this long, so that the clock's grain and a launch do not show
_LARGEST = 2  # inputs are whole numbers from -2 to 2
_ROWS = 4  # that are checked


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmPlan:
    """What to measure.

    Attributes:
        run: identifier. shapes: (m, n, k). dtype: a key of :data:`DTYPES`. on: "cpu", "cuda" or "auto".
        device: name for the records; "" takes what the system calls it.
        peak_flops, peak_source: what is promised and by whom; None and "" where nobody says.
        iters, warmup: samples per shape. threads: of the CPU; None takes torch's own.
    """

    run: str
    shapes: Sequence[tuple[int, int, int]]
    dtype: str
    on: str = "auto"
    device: str = ""
    peak_flops: float | None = None
    peak_source: str = ""
    iters: int = 10
    warmup: int = 2
    threads: int | None = None


def measure_gemm(plan: GemmPlan) -> Iterator[GemmMeasured]:
    """One record per shape, as soon as it is measured.

    Raises:
        InputError: an unknown dtype, tf32 on a CPU, or CUDA where torch finds none.
        CheckFailedError: a product is wrong.
    """
    device = _device(plan)
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = plan.dtype == "tf32"
    environment = collect_environment() | {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    if device.type == "cuda":
        environment |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    name = plan.device or environment.get("gpu") or environment["cpu_model"] or environment["platform"]
    for m, n, k in plan.shapes:
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        product, check = product_of((m, n, k), DTYPES[plan.dtype], device)
        product()
        check()
        yield GemmMeasured(
            run=plan.run,
            m=m,
            n=n,
            k=k,
            dtype=plan.dtype,
            device=str(name),
            samples_s=_samples(product, clock_of(device), plan),
            peak_flops=plan.peak_flops,
            peak_source=plan.peak_source,
            started_at=started_at,
            environment=environment,
        )


def _device(plan: GemmPlan) -> torch.device:
    if plan.dtype not in DTYPES:
        raise InputError(f"--dtype {plan.dtype!r} is unknown; known: {', '.join(DTYPES)}")
    if plan.on not in ("auto", "cpu", "cuda"):
        raise InputError(f"--on {plan.on!r} is unknown; known: auto, cpu, cuda")
    if plan.on == "cuda" and not torch.cuda.is_available():
        raise InputError("--on cuda: torch finds no CUDA device; use --on cpu")
    device = torch.device("cuda" if plan.on != "cpu" and torch.cuda.is_available() else "cpu")
    if plan.dtype == "tf32" and device.type == "cpu":
        raise InputError("--dtype tf32 is a way in which CUDA devices round; on a CPU use fp32")
    return device


def product_of(
    shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Callable[[], None], Callable[[], None]]:
    """(does the product once, raises if its first rows are wrong) for matrices of small whole numbers."""
    m, n, k = shape
    generator = torch.Generator().manual_seed(m + n + k)

    def whole_numbers(*size: int) -> torch.Tensor:
        return torch.randint(-_LARGEST, _LARGEST + 1, size, generator=generator).to(device, dtype)

    a, b = whole_numbers(m, k), whole_numbers(k, n)
    result = torch.empty(m, n, device=device, dtype=dtype)

    def product() -> None:
        torch.mm(a, b, out=result)

    def check() -> None:
        few, whole = a[:_ROWS].double(), b.double()
        right = few @ whole
        # a sum of rounded parts is off by the grain of its type times the sum of their sizes, at most
        allowed = torch.finfo(dtype).eps * (few.abs() @ whole.abs())
        if bool(((result[:_ROWS].double() - right).abs() > allowed).any()):
            raise CheckFailedError(f"the product {m} x {n} x {k} in {dtype} on {device} is wrong")

    return product, check


def _samples(product: Callable[[], None], clock: Clock, plan: GemmPlan) -> tuple[float, ...]:
    """Seconds of one product; each sample is the mean of as many as fill :data:`_LEAST_S`."""

    def timed(count: int) -> float:
        begin = clock.mark()
        for _ in range(count):
            product()
        end = clock.mark()
        clock.settle()
        return clock.elapsed_s(begin, end) / count

    clock.settle()
    began = time.perf_counter()
    product()
    clock.settle()
    count = max(1, round(_LEAST_S / max(time.perf_counter() - began, 1e-7)))
    for _ in range(plan.warmup):
        timed(count)
    return tuple(timed(count) for _ in range(plan.iters))
