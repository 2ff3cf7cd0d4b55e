# SPDX-License-Identifier: Apache-2.0
"""What the figures amount to, in sentences; and whether what must hold did hold."""

from collections.abc import Sequence

from benchmarks.records import Engines, Observation, Race, Skipped
from benchmarks.tables import difference_text
from benchmarks.training_steps import TrainingStep
from commbench.report.headlines import Verdict
from commbench.report.text import percent, plural, time_text

__all__ = ["MOST_DIFFERENCE", "fell_short", "verdicts"]

MOST_DIFFERENCE = 1e-3
"""Of predicted times, commbench / SimGrid - 1, either way. Speed is told, not judged: it depends on the machine."""


def verdicts(observations: Sequence[Observation]) -> list[Verdict]:
    """Speed at the largest world size of each case, agreement of the predictions, and what was left out."""
    races = [o for o in observations if isinstance(o, Race) and o.peer]
    largest = {race.case: race for race in sorted(races, key=lambda r: r.ranks)}
    engines = [o for o in observations if isinstance(o, Engines)]
    return [
        *(_speed(race) for race in largest.values()),
        *_where_slower(races),
        *([_agreement(races)] if races else []),
        *([_engines(engines)] if engines else []),
        *(Verdict("plain", "Left out", f"{o.what}: {o.why}") for o in observations if isinstance(o, Skipped)),
    ]


def fell_short(observations: Sequence[Observation]) -> list[str]:
    """Sentences about predictions that differ and must not; empty if all hold."""
    found = []
    for o in observations:
        if isinstance(o, Race) and o.difference is not None and abs(o.difference) > MOST_DIFFERENCE:
            found.append(
                f"{o.ranks} ranks, {o.case}: predictions differ by {difference_text(o.difference)} "
                f"(the limit is {MOST_DIFFERENCE:.1%})"
            )
        if isinstance(o, Engines) and o.reference_time_s != o.compiled_time_s:
            found.append(f"{o.ranks} ranks: the engines predict {o.reference_time_s!r} and {o.compiled_time_s!r} s")
        if isinstance(o, TrainingStep) and not o.same:
            found.append(f"sim train {o.arguments}: folded {o.time_s!r} s, every rank alone {o.unfolded_time_s!r} s")
    return found


def _speed(race: Race) -> Verdict:
    assert race.peer is not None
    assert race.ratio is not None
    faster = race.ratio > 1
    sentence = (
        f"{plural(race.ranks, 'rank')}, {race.case}: {race.transfers:,} transfers take commbench "
        f"{time_text(race.ours.wall_s)} and {race.peer.name} {time_text(race.peer.wall_s)}."
    )
    word = f"{race.ratio:.2f} times as fast as SimGrid" if faster else f"{1 / race.ratio:.2f} times slower than SimGrid"
    return Verdict("good" if faster else "bad", word, sentence)


def _where_slower(races: Sequence[Race]) -> list[Verdict]:
    """The races that commbench loses, and how much of its wall is not simulating."""
    lost = [r for r in races if r.ratio is not None and r.ratio < 1]
    if not lost:
        return []
    start_s = min(min(r.ours.walls_s) - min(r.ours.inside_s) for r in races)
    where = "; ".join(f"{plural(r.ranks, 'rank')}, {r.case}" for r in lost)
    sentence = f"{where}. Start and end of a commbench process take {time_text(start_s)} of every wall."
    return [Verdict("plain", "Slower than SimGrid", sentence)]


def _agreement(races: Sequence[Race]) -> Verdict:
    worst = max(races, key=lambda r: abs(r.difference or 0.0))
    short = abs(worst.difference or 0.0) > MOST_DIFFERENCE
    sentence = (
        f"predicted times of {plural(len(races), 'case')} differ by {difference_text(worst.difference or 0.0)} at the "
        f"most ({plural(worst.ranks, 'rank')}, {worst.case}); the limit is {percent(MOST_DIFFERENCE)}."
    )
    return Verdict("bad" if short else "good", "Other predictions" if short else "Same predictions", sentence)


def _engines(engines: Sequence[Engines]) -> Verdict:
    last = engines[-1]
    same = all(e.reference_time_s == e.compiled_time_s for e in engines)
    sentence = (
        f"compiled against reference engine on {plural(last.ranks, 'rank')}; "
        f"{'both predict the same time everywhere' if same else 'they predict different times'}."
    )
    return Verdict("good" if same else "bad", f"{last.ratio:,.0f} times as fast", sentence)
