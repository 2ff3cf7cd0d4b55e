# SPDX-License-Identifier: Apache-2.0
"""The model of NCCL beside curves that nothing was fitted to: ``python -m benchmarks.nccl --unseen``.

They are kept in ``sims/published/nccl-unseen.csv``, an index like that of the curves that constants are fitted to, with
the address where each was read as its ``source``, and in ``nccl-unseen-points.csv``, with their rows.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.nccl.curves import Curve, curve_of, rows_of
from benchmarks.nccl.detect import verdict_on
from benchmarks.nccl.fit import predicted, samples_of
from benchmarks.nccl.score import REGIONS, Errors, errors_of, gather, row
from commbench.errors import InputError

__all__ = ["INDEX", "TITLE", "Judged", "judged_in", "unseen"]

INDEX = Path("sims/published/nccl-unseen.csv")
TITLE = "## Curves that nothing was fitted to"
AT_FIRST = (
    "When these were first scored, before anything was mended, all were 18.8 / 73 up to 64 KiB, 14.8 / 67 in the knee,",
    "4.7 / 56 from 256 MiB and 9.3 / 60 from 1 MiB. Then mechanisms were mended that NCCL's source states, with these",
    "curves in sight: the figures below are no longer those of a blind test.",
)


@dataclass(frozen=True, slots=True)
class Judged:
    """One curve beside the model.

    Attributes:
        name: of the curve. source: where it was read. health: what the source says: "yes", "no" or "unknown".
        curve: None where the model does not know the machine. errors: signed, by region.
        word: of the rule of ``validate LOG``: ok, slow or unknown.
    """

    name: str
    source: str
    health: str
    curve: Curve | None
    errors: Errors
    word: str


def judged_in(index: Path, constants: Mapping[str, float]) -> list[Judged]:
    """Every curve of an index, in its order.

    Args:
        index: its file; the rows of the curves are beside it, in ``<stem>-points.csv``.
        constants: of the model, by name.
    """
    points: dict[str, list[dict[str, str]]] = {}
    for one in rows_of(index.with_name(f"{index.stem}-points.csv")):
        points.setdefault(one["curve"], []).append(one)
    return [_judged(one, points[one["curve"]], constants) for one in rows_of(index)]


def _judged(entry: Mapping[str, str], points: list[dict[str, str]], constants: Mapping[str, float]) -> Judged:
    name, known = entry["curve"], (entry["source"], entry["healthy"])
    try:
        curve = curve_of(name, entry, points)
    except InputError:
        return Judged(name, *known, None, {}, "unknown")
    (sample,) = samples_of([curve])
    errors = errors_of(curve, predicted(sample, constants))
    return Judged(name, *known, curve, errors, verdict_on(sample, constants).word)


def unseen(index: Path, constants: Mapping[str, float]) -> list[str]:
    """Lines of the section."""
    judged = judged_in(index, constants)
    healthy = [one for one in judged if one.health == "yes"]
    told = [(one.curve, one.errors) for one in healthy if one.curve is not None and any(map(len, one.errors.values()))]
    lines = [
        "", TITLE, "",
        f"Written by `python -m benchmarks.nccl --unseen` from `{index}`: {len(judged)} curves of",
        f"{len({one.source for one in judged})} public sources, which are named there ({_by_title(judged)} of the",
        "curves by title alone, their repository unknown); none is among the curves above, and no constant was fitted",
        "to any. Cells as above. What the model says of a healthy one is scored: it answers",
        f"`unknown` for {len(healthy) - len(told)} of {len(healthy)}, whose classes have no constants.",
        _verdicts(judged), *AT_FIRST,
    ]  # fmt: skip
    lines += _table("By what is sent, and where:", _classes(told), "healthy curves of")
    lines += ["", "By curve:", "", *_head("curve"), *(_line(one) for one in judged)]
    return lines


def _by_title(judged: list[Judged]) -> int:
    """Curves whose source has a title and no address."""
    return sum(one.source.endswith("repository not known") for one in judged)


def _classes(told: list[tuple[Curve, Errors]]) -> dict[str, Errors]:
    every = gather(told, lambda curve: "all")
    kinds = gather(told, lambda curve: curve.kind)
    places = gather(told, lambda curve: "one node" if curve.machine.nodes == 1 else "several nodes")
    generations = gather(told, lambda curve: curve.machine.kind.generation)
    return {**every, **places, **kinds, **generations}


def _verdicts(judged: list[Judged]) -> str:
    """What the rule calls them."""
    words = Counter((one.health, one.word) for one in judged)
    ill, well = (sum(words[health, word] for word in ("ok", "slow")) for health in ("no", "yes"))
    return (
        f"The rule of `validate LOG` calls {words['no', 'slow']} of {ill} ill ones slow, "
        f"and {words['yes', 'slow']} of {well} healthy ones."
    )


def _head(first: str) -> list[str]:
    return [f"| {first} | is | {' | '.join(REGIONS)} |", f"|---|---{'|---' * len(REGIONS)}|"]


def _table(title: str, errors: Mapping[str, Errors], first: str) -> list[str]:
    lines = ["", title, "", f"| {first} | {' | '.join(REGIONS)} |", f"|---{'|---' * len(REGIONS)}|"]
    return lines + [f"| {name} | {' | '.join(row(of))} |" for name, of in errors.items()]


def _line(one: Judged) -> str:
    is_ = {"yes": "healthy", "no": "ill"}.get(one.health, "not said")
    cells = row(one.errors) if one.curve is not None else ["unknown GPU"] * len(REGIONS)
    return f"| {one.name} | {is_} | {' | '.join(cells)} |"
