# SPDX-License-Identifier: Apache-2.0
"""The compiled engine: SEMANTICS.md for scale. It hands flat arrays to the kernel and reads the trace back."""

from collections.abc import Callable

from commbench.engine.kernel import counters as c
from commbench.engine.kernel.instants import loop_over
from commbench.engine.model import Model, build_model
from commbench.engine.setting import CutOff, Setting
from commbench.engine.steady import Steady, alike
from commbench.engine.trace import Trace
from commbench.errors import InputError, RunError
from commbench.network.base import NetworkKernel, NetworkModel, too_long
from commbench.network.models import FLUID
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram

__all__ = ["ENGINE", "run", "run_steady"]

ENGINE = "compiled"

_PAUSE = 200_000
"""Task instances and flows solved between two looks at the world (progress, Ctrl-C): some tens of milliseconds."""

Progress = Callable[[float], None]
"""Called now and then with the share of the work that is done."""


def run(
    program: FlatProgram | LoopProgram,
    setting: Setting,
    *,
    network: NetworkModel = FLUID,
    keep_trace: bool = True,
    progress: Progress | None = None,
) -> Trace:
    """Simulate a program, every task of it.

    Args:
        program: the tasks.
        setting: what they run in; ``paths.route_of`` has one entry per task of the program or of the loop's round.
        network: how long flows take.
        keep_trace: whether the spans of all instances are wanted; without them only the finish is known.
        progress: see Progress.

    Raises:
        InputError: some tasks wait for each other in a circle, or time passes the end of 64 bits.
        CutOff: a transfer's route has been cut.
    """
    kernel = network.kernel()
    model = build_model(program, setting, keep_trace=keep_trace, network=kernel)
    model = _run(model, kernel, program.num_tasks, progress, None)
    return _trace(model, kernel)


def run_steady(
    program: LoopProgram, setting: Setting, *, network: NetworkModel = FLUID, progress: Progress | None = None
) -> tuple[Trace, int]:
    """The same without spans, rounds that repeat fast-forwarded; also returns how many were."""
    kernel = network.kernel()
    model = build_model(program, setting, keep_trace=False, network=kernel)
    steady = Steady(model, program) if alike(program) else None
    model = _run(model, kernel, program.num_tasks, progress, steady)
    return _trace(model, kernel), steady.skipped if steady else 0


def _run(model: Model, kernel: NetworkKernel, total: int, progress: Progress | None, steady: Steady | None) -> Model:
    """Until all is done; the model, which may have been given more room."""
    advance = loop_over(kernel)
    while True:
        outcome = advance(model, total, _PAUSE)
        if outcome == c.REACHED and steady is not None:
            steady.look()
        elif outcome != c.RUNNING:
            break
        elif progress is not None:
            progress(model.n[c.FINISHED] / total)
        if kernel.grown is not None:
            model = model._replace(network=kernel.grown(model.network))
    if outcome == c.CUT:
        raise CutOff(int(model.n[c.ERROR_TASK]), int(model.n[c.NOW]))
    if outcome == c.TOO_LONG:
        raise too_long()
    if model.n[c.FINISHED] < total:
        why = kernel.stuck(model.network) if kernel.stuck is not None else ""
        if why:
            raise RunError(why)
        behind = int((model.tasks["round"] < model.num_rounds).argmax())
        task = int(model.tasks["base"][behind])
        raise InputError(f"task {task} can never start: it waits for itself in a circle")
    return model


def _trace(model: Model, kernel: NetworkKernel) -> Trace:
    counted = kernel.counted(model.network) if kernel.counted is not None else {}
    return Trace(model.start, model.end, int(model.n[c.SHARES]), int(model.n[c.NOW]), counted)
