# SPDX-License-Identifier: Apache-2.0
"""Is this number good? Each size of a log against its prediction, and the machine as a whole by a fixed rule.

A machine is slow when the median of measured / predicted from 256 MiB on is above :data:`PLATEAU`, or that of three
neighbouring sizes from 1 MiB on above :data:`THREE`. Nothing is said of one where a size of the plateau is faster than
reduction in switches or a tree could make it. The rule found all of the machines with a known fault among public
curves, and accused 3 of 31 healthy ones, all of classes without constants.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from commbench.results.judged import CORRUPT, FAST, OK, SLOW, UNKNOWN, Health, Judged
from commbench.results.records import Measured
from commbench.results.regions import PLATEAU as PLATEAU_REGION
from commbench.results.regions import region
from commbench.results.reported import Reported
from commbench.units import format_bytes

__all__ = ["PLATEAU", "THREE", "Answer", "Line", "Predictor", "judge_log"]

PLATEAU, THREE = 1.35, 2.0
_NEIGHBOURS, _FROM_BYTES = 3, 2**20
_MOST_GAIN = 2.1  # NVLS and SHARP save 2 (n-1)/(n+1) at most, a tree on two hosts 2 (n-1)/n
_MOST_NAMED = 6  # sizes in one sentence
_STAGED = 1.25  # out of place may cost a copy; from so much on, in place is the better witness


@dataclass(frozen=True, slots=True)
class Answer:
    """What a library would do at a size: seconds, None with the reason where it does not know, algorithm, protocol."""

    time_s: float | None
    algorithm: str = ""
    protocol: str = ""
    reason: str = ""


Predictor = Callable[[Sequence[int]], Sequence[Answer]]
"""Answers at some sizes in bytes, of one collective on the ranks of one run."""


@dataclass(frozen=True, slots=True)
class Line:
    """What the links of a machine carry at most, in GB/s of bus bandwidth of a ring, and why more may be seen.

    Attributes:
        rate_GBps: of the narrower of GPU links and NICs; None where nothing is known.
        hosts: that take part. nvls: whether the switches inside a host can add.
    """

    rate_GBps: float | None  # noqa: N815
    hosts: int
    nvls: bool

    def explained(self, busbw_GBps: float | None, collective: str, algorithm: str) -> str:  # noqa: N803
        """Why a bus bandwidth is above the rate of a link; "" if it is not."""
        if self.rate_GBps is None or busbw_GBps is None or busbw_GBps <= self.rate_GBps * 1.01:
            return ""
        above = f"above the line rate of {self.rate_GBps:.4g} GB/s: "
        if busbw_GBps > _MOST_GAIN * self.rate_GBps:
            return above + "too far for reduction in switches or a tree to explain; is it this machine, and in GB/s?"
        if algorithm.startswith("NVLS") or (self.nvls and self.hosts == 1):
            return above + "NVLS adds inside the switch, so that a GPU moves S (1 + 1/n) and not 2 S (n-1)/n"
        if algorithm.startswith("CollNet"):
            return above + "SHARP adds inside the network, so that a NIC moves S and not 2 S (n-1)/n"
        if collective == "all-reduce" and self.hosts == 2:
            return above + "a tree on two hosts moves S over the NICs where a ring moves 2 S (n-1)/n"
        if collective.startswith("all-to-all") and self.hosts > 1:
            return above + "what stays inside a host does not cross its NICs, but counts"
        return above + "reduction inside switches (NVLS, SHARP) could explain it; no link carries so much"


def judge_log(
    records: Sequence[Reported | Measured], predict: Predictor, line: Line, *, topology: str, library: str
) -> tuple[list[Judged], Health]:
    """The verdicts on one run of one collective.

    Args:
        records: rows of it, in any order. predict: what the library would do. line: rates of the machine.
        topology, library: names for the records.
    """
    chosen = [_witness(list(rows)) for _, rows in groupby(sorted(records, key=_by_size), key=lambda r: r.size_bytes)]
    witnesses = [record for record in chosen if record.size_bytes and record.time_s > 0]
    answers = predict([record.size_bytes for record in witnesses])
    found = [
        _judged(record, answer, line, topology, library) for record, answer in zip(witnesses, answers, strict=True)
    ]
    failed = any(isinstance(record, Reported) and record.failed for record in records)
    return found, _health(found, failed, records[0], topology, library)


def _by_size(record: Reported | Measured) -> tuple[int, bool]:
    return record.size_bytes, _in_place(record)


def _in_place(record: Reported | Measured) -> bool:
    return record.in_place if isinstance(record, Reported) else False


def _witness(rows: Sequence[Reported | Measured]) -> Reported | Measured:
    """The row of a size that is judged: one that is corrupt, else out of place, else in place if that is far faster."""
    bad = [row for row in rows if _corrupt(row)]
    if bad:
        return bad[0]
    out, into = ([row for row in rows if _in_place(row) is place] for place in (False, True))
    middles = [sorted(part, key=lambda row: row.time_s)[len(part) // 2] for part in (out, into) if part]
    return middles[-1] if middles[0].time_s > _STAGED * middles[-1].time_s else middles[0]


def _corrupt(record: Reported | Measured) -> str:
    """What is wrong with a row itself; "" if nothing is."""
    if record.wrong:
        return f"{record.wrong:,} wrong values"
    return record.problem if isinstance(record, Reported) else ""


def _judged(record: Reported | Measured, answer: Answer, line: Line, topology: str, library: str) -> Judged:
    corrupt, predicted = _corrupt(record), answer.time_s
    ratio = record.time_s / predicted if predicted else None
    verdict = CORRUPT if corrupt else UNKNOWN if ratio is None else _word(ratio, record.size_bytes)
    note = corrupt or (answer.reason if ratio is None else "")
    return Judged(
        run=record.run,
        collective=record.collective,
        ranks=record.ranks,
        size_bytes=record.size_bytes,
        in_place=_in_place(record),
        busbw_factor=record.busbw_factor,
        topology=topology,
        library=library,
        measured_s=record.time_s,
        predicted_s=predicted,
        algorithm=answer.algorithm,
        protocol=answer.protocol,
        verdict=verdict,
        note=note or line.explained(record.busbw_GBps, record.collective, answer.algorithm),
    )


def _word(ratio: float, size_bytes: int) -> str:
    """The verdict on one size alone, by the threshold of its region."""
    most = PLATEAU if region(size_bytes) == PLATEAU_REGION else THREE
    return SLOW if ratio > most else FAST if ratio < 1 / most else OK


def _health(
    found: Sequence[Judged], failed: bool, record: Reported | Measured, topology: str, library: str
) -> Health:
    """The verdict on the machine; ``failed``: the log itself says so."""
    sound = [(one.size_bytes, one.ratio) for one in found if one.verdict != CORRUPT and one.ratio is not None]
    plateau = [ratio for size, ratio in sound if region(size) == PLATEAU_REGION]
    large = [(size, ratio) for size, ratio in sound if size >= _FROM_BYTES]
    threes = _threes(large)
    corrupt = sum(one.verdict == CORRUPT for one in found)
    worst = max(threes, default=None)
    verdict, reason = _reason(corrupt, found, median(plateau) if plateau else None, worst, bool(sound))
    if failed and verdict != CORRUPT:
        verdict, reason = CORRUPT, "its own last lines say that values were wrong (Out of bounds values: FAILED)"
    elif verdict != CORRUPT and (size := next((size for size, ratio in sound if _impossible(size, ratio)), None)):
        verdict, reason = UNKNOWN, f"{format_bytes(size)} is faster than this machine can be: is it this machine?"
    elif verdict == OK:
        reason = "; ".join([reason, *_beside(sound)])
    return Health(
        run=record.run,
        collective=record.collective,
        ranks=record.ranks,
        topology=topology,
        library=library,
        verdict=verdict,
        reason=reason,
        points=len(sound),
        plateau_ratio=median(plateau) if plateau else None,
        worst_ratio=worst[0] if worst else None,
    )


def _threes(rows: Sequence[tuple[int, float]]) -> list[tuple[float, int, int]]:
    """Median ratio of every three neighbours, and the sizes at their ends."""
    parts = [rows[i : i + _NEIGHBOURS] for i in range(len(rows) - _NEIGHBOURS + 1)]
    return [(median(ratio for _, ratio in part), part[0][0], part[-1][0]) for part in parts]


def _impossible(size_bytes: int, ratio: float) -> bool:
    """Whether no gain that is known makes a size of the plateau so fast."""
    return region(size_bytes) == PLATEAU_REGION and ratio * _MOST_GAIN < 1


def _beside(sound: Sequence[tuple[int, float]]) -> list[str]:
    """What does not make a machine slow, but is to be known of one that is ok."""
    late = [f"{format_bytes(size)} ({ratio:.2f} times)" for size, ratio in sound
            if size >= _FROM_BYTES and ratio > PLATEAU]  # fmt: skip
    small = [row for row in sound if row[0] < _FROM_BYTES]
    parts = [small[i : i + _NEIGHBOURS] for i in range(len(small) - _NEIGHBOURS + 1)]
    dragging = [part for part in parts if all(ratio > THREE for _, ratio in part)]
    said = [] if any(region(size) == PLATEAU_REGION for size, _ in sound) else ["plateau (from 256 MiB) not measured"]
    if late:
        more = f" and {len(late) - _MOST_NAMED} more sizes" if len(late) > _MOST_NAMED else ""
        said.append(f"slower than predicted at {', '.join(late[:_MOST_NAMED])}{more}")
    if dragging:
        ends = f"{format_bytes(dragging[0][0][0])} to {format_bytes(dragging[-1][-1][0])}"
        said.append(f"small sizes, {ends}, take over {THREE:g} times as long as predicted")
    return said


def _reason(
    corrupt: int, found: Sequence[Judged], plateau: float | None, worst: tuple[float, int, int] | None, known: bool
) -> tuple[str, str]:
    """Verdict and words, the worst first."""
    if corrupt:
        return CORRUPT, f"{corrupt} of {len(found)} sizes have wrong values or contradict themselves"
    if not known:
        notes = [one.note for one in found if one.note]
        return UNKNOWN, notes[0] if notes else "nothing was predicted"
    if plateau is not None and plateau > PLATEAU:
        return SLOW, f"from 256 MiB on it takes {plateau:.2f} times as long as predicted in the median (over {PLATEAU})"
    if worst is not None and worst[0] > THREE:
        ends = f"{format_bytes(worst[1])} to {format_bytes(worst[2])}"
        return SLOW, f"from {ends} it takes {worst[0]:.2f} times as long as predicted in the median (over {THREE})"
    if plateau is None and worst is None:
        return UNKNOWN, "fewer than three sizes from 1 MiB on, and none from 256 MiB: too few to tell"
    return OK, "as fast as predicted, within the thresholds"
