# SPDX-License-Identifier: Apache-2.0
"""The text form: what was written reads back as the same schedule, and every error says where and which rule."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms.load import load_any
from commbench.collectives.registry import build, build_schedule
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.text import from_text, read_schedule, to_text
from commbench.errors import InputError, ScheduleError

_small = st.integers(0, 40)
_ops = st.builds(
    Op,
    step=_small,
    rank=_small,
    channel=st.integers(0, 3),
    kind=st.sampled_from(Kind),
    peer=_small,
    chunk=st.integers(-3, 2**31 - 1),
    count=st.integers(1, 9),
)
_names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=12)
# Any table at all: reading and writing do not ask whether the schedule is right, the verifier does.
schedules = st.builds(
    Schedule.from_ops,
    _names,
    _names,
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(_ops, max_size=20),
    window=st.integers(1, 4),
    root=st.just(0),
)

TWO_RANKS = """\
commbench-schedule 1
collective all-reduce
algorithm ring
ranks 2
chunks 2
window 1
root 0
# step rank channel op peer chunk count
0 0 0 send 1 0 1
0 0 0 reduce 1 1 1
1 0 0 send 1 1 1
1 0 0 recv 1 0 1
0 1 0 send 0 1 1
0 1 0 reduce 0 0 1
1 1 0 send 0 0 1
1 1 0 recv 0 1 1
"""


@given(schedules)
def test_what_was_written_reads_back(schedule: Schedule) -> None:
    text = to_text(schedule)
    assert from_text(text) == schedule
    assert to_text(from_text(text)) == text


def test_the_ring_on_two_ranks() -> None:
    assert to_text(build_schedule("all-reduce", "ring", 2)) == TWO_RANKS


def test_blank_lines_comments_and_order_do_not_matter() -> None:
    head, body = TWO_RANKS.splitlines()[:7], TWO_RANKS.splitlines()[8:]
    shuffled = "\n# a note\n\n".join([*head, *body[4:], "   " + body[0], *body[1:4]])
    assert from_text(shuffled) == from_text(TWO_RANKS)


def test_posting_order_inside_a_step_is_kept() -> None:
    """Two sends of one step to the same peer: the first in the text is the first to meet a receive."""
    ops = [Op(0, 0, 0, Kind.SEND, 1, 5), Op(0, 0, 0, Kind.SEND, 1, 3)]
    schedule = Schedule.from_ops("all-reduce", "x", 2, 6, ops)
    assert [op.chunk for op in from_text(to_text(schedule))] == [5, 3]


def broken(line: int, text: str) -> str:
    """TWO_RANKS with one line (from 1) replaced."""
    lines = TWO_RANKS.splitlines()
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.txt: the first line must be 'commbench-schedule 1'"),
        ("# only a comment", "f.txt: the first line must be 'commbench-schedule 1'"),
        (broken(1, "commbench-schedule 2"), "f.txt: the first line must be 'commbench-schedule 1'"),
        (broken(3, "algo ring"), "f.txt, line 3: 'algo ring' where 'algorithm VALUE' must stand"),
        (broken(3, "algorithm"), "f.txt, line 3: 'algorithm' where 'algorithm VALUE' must stand"),
        (broken(5, ""), "f.txt, line 6: 'window 1' where 'chunks VALUE' must stand"),
        ("\n".join(TWO_RANKS.splitlines()[:5]), "f.txt: the header ends before 'window'"),
        (broken(4, "ranks two"), "f.txt, ranks: 'two' is not a whole number"),
        (broken(6, "window 1.5"), "f.txt, window: '1.5' is not a whole number"),
        (
            broken(4, "ranks 0"),
            "f.txt: schedule all-reduce/ring: ranks, chunks and window must be at least 1, not 0, 2 and 1",
        ),
        (
            broken(10, "0 0 0 reduce 1 1"),
            "f.txt, line 10: '0 0 0 reduce 1 1' has 6 fields, a record has 7: step rank channel op peer chunk count",
        ),
        (broken(9, "0 0 0 add 1 0 1"), "f.txt, line 9: op 'add' is unknown; known: send, recv, reduce"),
        (broken(9, "0 0 0 SEND 1 0 1"), "f.txt, line 9: op 'SEND' is unknown; known: send, recv, reduce"),
        (broken(9, "0 x 0 send 1 0 1"), "f.txt, line 9: 'x' is not a whole number"),
        (broken(9, "0 0 0 send 1 0 3000000000"), "f.txt, line 9: 3000000000 does not fit into 32 bits"),
    ],
)
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(ScheduleError) as error:
        from_text(text, "f.txt")
    assert str(error.value) == message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"no\.txt: cannot be read: .*No such file"):
        read_schedule(tmp_path / "no.txt")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScheduleError, match=r"s\.txt: cannot be read: .*utf-8"):
        read_schedule(tmp_path / "s.txt")


def test_an_algorithm_by_name_or_by_file(tmp_path: Path) -> None:
    path = tmp_path / "ring.txt"
    path.write_text(TWO_RANKS, encoding="utf-8")
    assert load_any("all-reduce", "tree").name == "double-binary-tree"
    request = Request(num_ranks=2)
    assert build(load_any("all-reduce", str(path)), request) == build_schedule("all-reduce", "ring", 2)


def test_a_file_is_verified_before_use(tmp_path: Path) -> None:
    path = tmp_path / "ring.txt"
    path.write_text(broken(12, "1 0 0 recv 1 1 1"), encoding="utf-8")
    with pytest.raises(ScheduleError, match="rank 0, step 1, chunk 1"):
        load_any("all-reduce", str(path))


def test_a_file_for_another_collective(tmp_path: Path) -> None:
    path = tmp_path / "ring.txt"
    path.write_text(broken(2, "collective all-gather"), encoding="utf-8")
    with pytest.raises(ScheduleError, match="a schedule for all-gather, not for all-reduce"):
        load_any("all-reduce", str(path))


def test_an_algorithm_that_nobody_knows() -> None:
    with pytest.raises(InputError) as error:
        load_any("all-reduce", "rnig")
    assert str(error.value).startswith("algorithm 'rnig' is unknown for all-reduce; did you mean ring? known: ring, ")
