# SPDX-License-Identifier: Apache-2.0
"""Which products to time, and what a device promises of them."""

import re
from collections.abc import Sequence

from commbench.errors import InputError, UnitError
from commbench.topology.devices import load_device
from commbench.topology.search import list_devices
from commbench.units import parse_flops
from commbench.workload.formats import FORMATS
from commbench.workload.operators import layer_operators
from commbench.workload.presets import get_model
from commbench.workload.transformer import Execution

__all__ = ["peak_of", "shapes_of"]

_SHAPE = re.compile(r"x".join([r"([1-9]\d{0,8})"] * 3))
_GRID = (256, 1024)  # m, n and k each, where no shapes are given


def shapes_of(texts: Sequence[str], model: str | None, tp: int, micro_batch: int) -> list[tuple[int, int, int]]:
    """The shapes to measure, none twice."""
    if texts and model is not None:
        raise InputError(f"--model {model} has no meaning with --shape: one of them says what to measure")
    if model is not None:
        return _of_model(model, tp, micro_batch)
    if not texts:
        return [(m, n, k) for m in _GRID for n in _GRID for k in _GRID]
    shapes = []
    for text in texts:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise InputError(f"--shape {text!r} must be MxNxK, whole numbers from 1 to 999999999, such as 64x64x64")
        shapes.append((int(match[1]), int(match[2]), int(match[3])))
    return list(dict.fromkeys(shapes))


def _of_model(name: str, tp: int, micro_batch: int) -> list[tuple[int, int, int]]:
    """Forward, input-gradient and weight-gradient products of a layer, of each kind; attention cores are none."""
    model = get_model(name)
    run = Execution(
        micro_batch=micro_batch,
        sequence=model.sequence,
        formats=FORMATS["bf16"],
        attention="causal",
        flash=True,
        recompute="none",
        tp=tp,
    )
    run.check_model(model)
    operators = [op for kind in model.kinds for op in layer_operators(model, run, kind)]
    works = [work for op in operators if not op.core for work in (op.forward, op.input, op.weight)]
    return list(dict.fromkeys((w.matmul.m, w.matmul.n, w.matmul.k) for w in works if w.matmul is not None))


def peak_of(device: str | None, dtype: str, text: str | None) -> tuple[float | None, str]:
    """(FLOP/s, who says so): as given, else the data sheet of a known device, else nothing."""
    if text is not None:
        try:
            return parse_flops(text), "given with --peak"
        except UnitError as error:
            raise InputError(f"--peak: {error}") from None
    if device is None or device not in list_devices():
        return None, ""
    found = load_device(device)
    return found.peak(dtype), found.numbers[f"flops.{dtype}"].source
