# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a program, on which network model, and in which detail.

Engines: ``compiled`` and ``reference``; both give the same times to the picosecond. ``auto`` takes the compiled one,
but for programs so small that the reference engine is through before compiled code is loaded; packets are always many.

Network models: those of :mod:`commbench.network.models`.

Details: ``transfer`` simulates every transfer. ``folded`` gives the same answer from less work where the program
repeats itself or its ranks are in symmetric positions, and says what it did. ``collective`` is an estimate: one
aggregate flow for the whole collective (:mod:`commbench.lowering.aggregate`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from commbench.engine.setting import Paths, Setting, What
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.network.models import FLUID, get_network
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram

__all__ = ["DETAILS", "ENGINES", "Done", "Run", "run"]

ENGINES = ("auto", "compiled", "reference")
DETAILS = ("transfer", "folded", "collective")
_SMALL = 64  # tasks: milliseconds in the reference engine, where loading compiled code takes some hundred


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to run: see the module docstring.

    Attributes:
        engine, network, detail: names.
        keep_trace: whether the spans of all tasks are wanted.
        progress: called now and then with the share of the work that is done.
        num_foreground: tasks whose end is the end; those behind them (background flows) may go on. None: all.
    """

    engine: str = "auto"
    network: str = FLUID.name
    detail: str = "transfer"
    keep_trace: bool = True
    progress: Callable[[float], None] | None = None
    num_foreground: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Done:
    """What came out.

    Attributes:
        program, trace: the tasks and their spans.
        finish_ps: end of the last foreground task.
        transfers: how many the answer stands for.
        shortcut: what was folded or skipped, in words; "" if every transfer was simulated.
        paths: that ``program`` took; None where that changed during the run.
        engine: that ran it.
    """

    program: FlatProgram | LoopProgram
    trace: Trace
    finish_ps: int
    transfers: int
    shortcut: str = ""
    paths: Paths | None = None
    engine: str = "compiled"


def run(program: FlatProgram | LoopProgram, setting: Setting, how: Run) -> Done:
    """Run a program.

    Raises:
        InputError: an unknown engine or network model, or what is asked to fold cannot.
        CutOff: see the engines.
    """
    if how.engine not in ENGINES:
        raise InputError(f"--engine {how.engine!r} is unknown; known: {', '.join(ENGINES)}")
    network = get_network(how.network)
    if how.detail != "transfer" and not network.weighted:
        raise InputError(f"--network {network.name} simulates every transfer: give --detail transfer")
    if network.delays:
        setting = replace(setting, paths=setting.paths.without_link_latencies())
    small = isinstance(program, FlatProgram) and len(program.kind) <= _SMALL and network.weighted
    small = small and how.detail != "folded"
    if how.engine == "reference" or (how.engine == "auto" and small):
        return _reference(program, setting, how)
    from commbench.engine import compiled  # loads numba

    if how.detail == "folded":
        return _folded(program, setting, how)
    trace = compiled.run(
        program,
        setting,
        network=network,
        keep_trace=how.keep_trace or how.num_foreground is not None,
        progress=how.progress,
    )
    return _done(program, trace, how, setting)


def _done(program: FlatProgram | LoopProgram, trace: Trace, how: Run, setting: Setting) -> Done:
    finish_ps = trace.finish_ps
    if how.num_foreground is not None:
        finish_ps = int(trace.end_ps[: how.num_foreground].max(initial=0))
    moved = any(change.what is What.ROUTE for change in setting.changes)
    return Done(
        program=program,
        trace=trace,
        finish_ps=finish_ps,
        transfers=program.num_transfers,
        paths=None if moved else setting.paths,
    )


def _reference(program: FlatProgram | LoopProgram, setting: Setting, how: Run) -> Done:
    from commbench.engine import reference

    if how.detail == "folded":
        raise InputError("--engine reference simulates every transfer: give --detail transfer, or --engine compiled")
    assert isinstance(program, FlatProgram), "the reference engine runs flat programs"
    done = _done(program, reference.run(program, setting, network=get_network(how.network)), how, setting)
    return replace(done, engine="reference")


def _folded(program: FlatProgram | LoopProgram, setting: Setting, how: Run) -> Done:
    """Fold ranks, then skip rounds; what cannot be is simulated whole."""
    from commbench.engine import compiled
    from commbench.engine.fold import fold

    network = get_network(how.network)
    if not isinstance(program, LoopProgram):
        keep = how.num_foreground is not None
        trace = compiled.run(program, setting, network=network, keep_trace=keep, progress=how.progress)
        words = "simulated whole: its steps are not repetitions of one round"
        return replace(_done(program, trace, how, setting), shortcut=words)
    folded = fold(program, setting)
    trace, skipped = compiled.run_steady(folded.program, folded.setting, network=network, progress=how.progress)
    tasks = f"{len(program.kind):,} tasks of a round folded to {len(folded.program.kind):,}"
    rounds = f"{skipped:,} of {program.num_rounds:,} rounds skipped as repetitions"
    words = f"{f'ranks not folded: {folded.why_not}' if folded.why_not else tasks}; {rounds}"
    return replace(_done(program, trace, how, setting), shortcut=words)
