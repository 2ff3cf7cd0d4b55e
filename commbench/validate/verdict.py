# SPDX-License-Identifier: Apache-2.0
"""Is this number good? Each size of a log against its prediction, and the machine as a whole by a fixed rule.

When a machine is slow says :mod:`commbench.results.health_rule`; docs/nccl-accuracy.md has what it finds among public
curves. Nothing is said of a machine where a size of the plateau is faster than reduction in switches or a tree could
make it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from commbench.results.health_rule import FROM_BYTES, NEIGHBOURS, PLATEAU, THREE, Slowness, slowness
from commbench.results.judged import CORRUPT, FAST, OK, SLOW, UNKNOWN, Health, Judged
from commbench.results.records import Measured
from commbench.results.regions import PLATEAU as PLATEAU_REGION
from commbench.results.regions import region
from commbench.results.reported import Reported
from commbench.units import format_bytes

__all__ = ["Answer", "Line", "Predictor", "judge_log"]

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
    how = slowness(sound)
    corrupt = sum(one.verdict == CORRUPT for one in found)
    verdict, reason = _reason(corrupt, found, how, bool(sound))
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
        plateau_ratio=how.plateau,
        worst_ratio=how.worst[0] if how.worst else None,
    )


def _impossible(size_bytes: int, ratio: float) -> bool:
    """Whether no gain that is known makes a size of the plateau so fast."""
    return region(size_bytes) == PLATEAU_REGION and ratio * _MOST_GAIN < 1


def _beside(sound: Sequence[tuple[int, float]]) -> list[str]:
    """What does not make a machine slow, but is to be known of one that is ok."""
    late = [f"{format_bytes(size)} ({ratio:.2f} times)" for size, ratio in sound
            if size >= FROM_BYTES and ratio > PLATEAU]  # fmt: skip
    small = [row for row in sound if row[0] < FROM_BYTES]
    parts = [small[i : i + NEIGHBOURS] for i in range(len(small) - NEIGHBOURS + 1)]
    dragging = [part for part in parts if all(ratio > THREE for _, ratio in part)]
    said = [] if any(region(size) == PLATEAU_REGION for size, _ in sound) else ["plateau (from 256 MiB) not measured"]
    if late:
        more = f" and {len(late) - _MOST_NAMED} more sizes" if len(late) > _MOST_NAMED else ""
        said.append(f"slower than predicted at {', '.join(late[:_MOST_NAMED])}{more}")
    if dragging:
        ends = f"{format_bytes(dragging[0][0][0])} to {format_bytes(dragging[-1][-1][0])}"
        said.append(f"small sizes, {ends}, take over {THREE:g} times as long as predicted")
    return said


def _reason(corrupt: int, found: Sequence[Judged], how: Slowness, known: bool) -> tuple[str, str]:
    """Verdict and words, the worst first."""
    if corrupt:
        return CORRUPT, f"{corrupt} of {len(found)} sizes have wrong values or contradict themselves"
    if not known:
        notes = [one.note for one in found if one.note]
        return UNKNOWN, notes[0] if notes else "nothing was predicted"
    if how.plateau is not None and how.plateau > PLATEAU:
        of = f"from {format_bytes(how.plateau_from)} on it takes {how.plateau:.2f} times as long as predicted"
        return SLOW, f"{of} in the median (over {PLATEAU})"
    if how.worst is not None and how.worst[0] > THREE:
        ends = f"{format_bytes(how.worst[1])} to {format_bytes(how.worst[2])}"
        return SLOW, f"from {ends} it takes {how.worst[0]:.2f} times as long as predicted in the median (over {THREE})"
    if not how.known:
        return UNKNOWN, "fewer than three sizes from 1 MiB on, and none from 64 MiB: too few to tell"
    return OK, "as fast as predicted, within the thresholds"
