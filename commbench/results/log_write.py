# SPDX-License-Identifier: Apache-2.0
"""Results as the text that nccl-tests 2.19 prints, for programs that read it; ``results.log_text`` reads it back."""

from collections.abc import Sequence

from commbench import __version__
from commbench.collectives.sizes import short_dtype
from commbench.collectives.spec import CollectiveSpec, get_collective
from commbench.errors import InputError

__all__ = ["log_foot", "log_head", "log_row", "program_of"]

_PROGRAMS = {"all-to-all": "alltoall", "all-to-all-v": "alltoallv", "send-recv": "sendrecv"}
_MOST_LISTED = 4096  # ranks whose lines stand above a table
_LEAD = ("size", "count", "type", "redop", "root")
_BODY, _UNITS = ("time", "algbw", "busbw", "#wrong"), ("(us)", "(GB/s)", "(GB/s)", "")


def program_of(collective: str) -> str:
    """nccl-tests' program for a collective, such as "all_reduce_perf".

    Raises:
        InputError: it has none.
    """
    if collective == "barrier":
        raise InputError(f"--format nccl-tests: nccl-tests has no {collective}; leave --format out")
    return f"{_PROGRAMS.get(collective, collective.replace('-', '_'))}_perf"


def log_head(
    collective: str,
    members: Sequence[tuple[str, int, str]],
    sizes_bytes: Sequence[int],
    notes: Sequence[str],
    *,
    warmup: int = 0,
    iters: int = 1,
) -> str:
    """What stands above the rows.

    Args:
        members: host, number on it and device of every rank. sizes_bytes: of the rows.
        notes: how the figures come about, in words.
        warmup, iters: iterations of each size.
    """
    listed = members if len(members) <= _MOST_LISTED else ()
    lines = [
        f"# commbench {__version__}: as nccl-tests 2.19 prints it; {len(members)} ranks",
        *(f"# {note}" for note in notes),
        f"# Collective test starting: {program_of(collective)}",
        f"# nThread 1 nGpus 1 minBytes {min(sizes_bytes)} maxBytes {max(sizes_bytes)} warmup iters: {warmup} "
        f"iters: {iters} agg iters: 1 validation: 0 graph: 0",
        "#",
        "# Using devices",
        *(
            f"#  Rank {rank:2} Group  0 Pid {0:6} on {host:>10} device {index:2} [0000:00:00] {device}"
            for rank, (host, index, device) in enumerate(listed)
        ),
        "#",
        f"# {_cells(('',) * 5, (10, 12, 8, 6, 6))}           out-of-place                       in-place          ",
        f"# {_cells((*_LEAD, *_BODY, *_BODY), _HEAD_WIDTHS)} ",
        f"# {_cells(('(B)', '(elements)', '', '', '', *_UNITS, *_UNITS), _HEAD_WIDTHS)} ",
    ]
    return "\n".join(lines)


_HEAD_WIDTHS = (10, 12, 8, 6, 6, 7, 6, 6, 6, 7, 6, 6, 6)


def _cells(texts: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.rjust(width) for text, width in zip(texts, widths, strict=True))


def log_row(
    collective: str,
    ranks: int,
    size_bytes: int,
    num_elements: int,
    dtype: str,
    times_s: Sequence[float | None],
    *,
    op: str = "sum",
    root: int = 0,
    wrong: Sequence[int | None] = (None, None),
) -> str:
    """One size.

    Args:
        size_bytes, num_elements: of the full buffer. dtype: of an element, as torch calls it.
        times_s, wrong: seconds and wrong elements out of place and in place; None prints N/A.
        root: of rooted collectives.
    """
    spec = get_collective(collective)
    count = num_elements // (ranks if spec.by_rank else 1)
    lead = (str(size_bytes), str(count), short_dtype(dtype), op if spec.reduces else "none",
            str(root if spec.rooted else -1))  # fmt: skip
    bodies = (_body(spec, ranks, size_bytes, *body) for body in zip(times_s, wrong, strict=True))
    return "  ".join([_cells(lead, (12, 12, 8, 6, 6)), *bodies])


def _body(spec: CollectiveSpec, ranks: int, size_bytes: int, time_s: float | None, wrong: int | None) -> str:
    """One placement."""
    if time_s is None:
        return _cells(("N/A",) * 4, (7, 6, 6, 6))
    algbw = size_bytes / time_s / 1e9 if time_s else 0.0
    rates = (_figure(algbw * factor, 6) for factor in (1.0, spec.busbw_factor(ranks)))
    return _cells((_figure(1e6 * time_s, 7), *rates, "N/A" if wrong is None else f"{wrong:g}"), (7, 6, 6, 6))


def _figure(value: float, width: int) -> str:
    """With two decimals, or as many as there is room for."""
    found = next((text for decimals in (2, 1, 0) if len(text := f"{value:.{decimals}f}") <= width), "")
    return found or f"{value:.{int(width >= 7)}e}"


def log_foot(collective: str, busbws_GBps: Sequence[float | None], wrong: int = 0) -> str:  # noqa: N803
    """What stands below the rows: the mean of all bus bandwidths, where what has none counts as 0."""
    mean = sum(value or 0.0 for value in busbws_GBps) / len(busbws_GBps)
    return (
        f"# Out of bounds values : {wrong} {'FAILED' if wrong else 'OK'}\n# Avg bus bandwidth    : {mean:g} \n"
        f"#\n# Collective test concluded: {program_of(collective)}\n#"
    )
