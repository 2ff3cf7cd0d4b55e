# SPDX-License-Identifier: Apache-2.0
"""MSCCL XML in and out: the meaning of every step type, the rules of the format, and the way back."""

from collections import Counter
from pathlib import Path

import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.msccl import from_msccl, read_msccl
from commbench.collectives.msccl_write import to_msccl
from commbench.collectives.registry import ALGORITHMS, build, build_schedule
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.verify import verify
from commbench.errors import InputError, ScheduleError

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "msccl-ring-4.xml"
REGISTRY = sorted({(a.collective, a.name) for a in ALGORITHMS.values()})

Threadblock = tuple[int, int, int, list[str]]
"""send, recv, chan, steps."""


def program(gpus: list[list[Threadblock]], coll: str = "allreduce", chunks: int = 2, inplace: int = 1) -> str:
    """XML text; a step is written "type src dst cnt", then maybe ">tb.step" for what it waits for, then maybe "*"."""
    lines = [f'<algo name="x" nchunksperloop="{chunks}" ngpus="{len(gpus)}" coll="{coll}" inplace="{inplace}">']
    for g, blocks in enumerate(gpus):
        lines.append(f'<gpu id="{g}" i_chunks="{chunks}" o_chunks="{chunks}" s_chunks="9">')
        for b, (send, recv, chan, steps) in enumerate(blocks):
            lines.append(f'<tb id="{b}" send="{send}" recv="{recv}" chan="{chan}">')
            for s, words in enumerate(step.split() for step in steps):
                src, dst, count = words[1:4] if words[0] != "nop" else ("i-1", "o-1", "0")
                wait = next((w[1:].split(".") for w in words if w[0] == ">"), ["-1", "-1"])
                places = f'srcbuf="{src[0]}" srcoff="{src[1:]}" dstbuf="{dst[0]}" dstoff="{dst[1:]}"'
                waits = f'depid="{wait[0]}" deps="{wait[1]}" hasdep="{int("*" in words)}"'
                lines.append(f'<step s="{s}" type="{words[0]}" {places} cnt="{count}" {waits}/>')
            lines.append("</tb>")
        lines.append("</gpu>")
    return "\n".join([*lines, "</algo>"])


def exchange(steps: list[str]) -> list[list[Threadblock]]:
    """Two gpus, one threadblock each, doing the same."""
    return [[(1, 1, 0, steps)], [(0, 0, 0, steps)]]


def traffic(schedule: Schedule) -> Counter[tuple[int, int]]:
    """Chunks per pair of different ranks."""
    sends = (op for op in schedule if op.kind is Kind.SEND and op.rank != op.peer)
    found: Counter[tuple[int, int]] = Counter()
    for op in sends:
        found[op.rank, op.peer] += op.count
    return found


def num_messages(schedule: Schedule) -> int:
    return sum(op.kind is Kind.SEND and op.rank != op.peer for op in schedule)


def test_the_sample_is_the_ring() -> None:
    """rrs, rrcs and rcs come out as receive, then send in the next step, with no copy and no further memory."""
    sample = read_msccl(SAMPLE)
    verify(sample)
    ring = build_schedule("all-reduce", "ring", 4)
    assert (sample.num_steps, sample.num_buffers, len(sample)) == (ring.num_steps, 1, len(ring))
    assert traffic(sample) == traffic(ring)
    # The ring of the file is ours with chunk c named c: rank r starts with chunk r in both.
    assert sorted(sample) == sorted(ring)


@pytest.mark.parametrize(("collective", "name"), REGISTRY)
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("pieces", [1, 2])
def test_there_and_back(collective: str, name: str, num_ranks: int, pieces: int) -> None:
    """What is written can be read, is right, and moves the same bytes in the same messages."""
    request = Request(
        num_ranks=num_ranks,
        slices=pieces,
        channels=pieces,
        root=num_ranks - 1 if collective in ("broadcast", "reduce", "gather", "scatter") else 0,
        group=2 if num_ranks % 2 == 0 else 1,
        num_elements=720 * num_ranks,
    )
    try:
        schedule = build(ALGORITHMS[collective, name], request)
    except InputError:
        return  # does not serve this world
    if schedule.weights or schedule.num_switches:
        with pytest.raises(ScheduleError, match="MSCCL XML knows"):
            to_msccl(schedule)
        return
    back = from_msccl(to_msccl(schedule))
    verify(back)
    assert (back.collective, back.root, back.algorithm) == (collective, schedule.root, schedule.algorithm)
    assert traffic(back) == traffic(schedule)
    assert num_messages(back) == num_messages(schedule)
    assert to_msccl(back).count("<gpu ") == num_ranks


def test_a_ring_comes_back_as_it_was() -> None:
    for pieces in (1, 2):
        ring = build_schedule("all-reduce", "ring", 5, pieces)
        assert sorted(from_msccl(to_msccl(ring))) == sorted(ring)


def test_all_pairs_through_scratch() -> None:
    """Every gpu adds up its half: s, r into scratch, a dependency, re, and the sums sent back (as msccl-tools does)."""
    gpus: list[list[Threadblock]] = []
    for g, p in ((0, 1), (1, 0)):
        swap = [f"s i{p} s0 1", "r i0 s0 1 *", f"s i{g} i{g} 1 >1.1", f"r i{p} i{p} 1"]
        gpus.append([(p, p, 0, swap), (-1, -1, 0, ["nop >0.1", f"re s0 i{g} 1 *"])])
    schedule = from_msccl(program(gpus))
    verify(schedule)
    assert traffic(schedule) == {(0, 1): 2, (1, 0): 2}
    assert schedule.num_buffers == 2
    assert schedule.num_channels == 1


def test_scratch_that_holds_one_chunk_of_several_gpus() -> None:
    """Three gpus send each other everything; what arrives waits in scratch chunks of its own until it is added."""
    gpus: list[list[Threadblock]] = []
    for g in range(3):
        peers = [p for p in range(3) if p != g]
        swaps: list[Threadblock] = [(p, p, 0, ["s i0 s0 1 *", f"r i0 s{k} 1 *"]) for k, p in enumerate(peers)]
        gpus.append([*swaps, (-1, -1, 0, ["nop >0.0", "nop >1.0", "re s0 i0 1 >0.1", "re s1 i0 1 >1.1"])])
    schedule = from_msccl(program(gpus, chunks=1))
    verify(schedule)
    assert schedule.num_buffers == 3


def test_copies_out_of_place() -> None:
    """An all-gather whose input is one block and whose output is another buffer, with cpy and rcs."""
    gpus = [[(-1, -1, 0, [f"cpy i0 o{g} 1"]), ((g + 1) % 3, (g - 1) % 3, 0, [])] for g in range(3)]
    for g in range(3):
        gpus[g][1][3].extend([f"s i0 o{g} 1", f"rcs i0 o{(g - 1) % 3} 1", f"r o0 o{(g - 2) % 3} 1"])
    schedule = from_msccl(program(gpus, "allgather", 3, inplace=0))
    verify(schedule)
    assert (schedule.output, schedule.num_buffers) == (1, 2)
    assert traffic(schedule) == {(g, (g + 1) % 3): 2 for g in range(3)}


def test_reduce_scatter_output_is_one_block() -> None:
    """rrc that adds the input to what arrives and keeps the sum elsewhere."""
    gpus = [[(1 - g, 1 - g, 0, [f"s i{1 - g} o0 1", f"rrc i{g} o0 1"])] for g in (0, 1)]
    schedule = from_msccl(program(gpus, "reduce_scatter", 2, inplace=0))
    verify(schedule)
    assert [str(op) for op in schedule.ops_of(0)] == ["0>0", "2<0", "1>1", "2+1"]


@pytest.mark.parametrize("last", ["r", "rrc"])
def test_a_sum_that_is_sent_on_spoils_nothing_that_is_still_wanted(last: str) -> None:
    """gpu 1 sends on what it adds up with rrs; its own chunk is used once more (rrc) or overwritten (r)."""
    ring = [
        [(1, 2, 0, ["s i0 i0 1", "r i0 i0 1"])],
        [(2, 0, 0, ["rrs i0 i0 1"]), (-1, 2, 1, [f"{last} i0 i0 1 >0.0"])],
        [(0, 1, 0, ["rrcs i0 i0 1 *"]), (1, -1, 1, ["s i0 i0 1 >0.0"])],
    ]
    ring[1][0][3][0] += " *"
    schedule = from_msccl(program(ring, chunks=1))
    assert schedule.num_buffers == (1 if last == "r" else 2)
    if last == "r":
        verify(schedule)
    else:  # rank 1's own chunk is then added to the sum once more, and the verifier sees exactly that
        with pytest.raises(ScheduleError, match="rank 1 ends chunk 0 without nothing and with rank 1's chunk 0"):
            verify(schedule)


def test_channels_that_use_a_chunk_in_turn_become_one() -> None:
    gpus = [
        [(1, -1, 0, ["s i0 i0 1", "s i1 i1 1"]), (-1, 1, 3, ["r i0 i0 1 >0.0", "r i1 i1 1 >0.1"])],
        [(-1, 0, 0, ["rrc i0 i0 1 *", "rrc i1 i1 1 *"]), (0, -1, 3, ["s i0 i0 1 >0.0", "s i1 i1 1 >0.1"])],
    ]
    gpus[0][0][3][:] = ["s i0 i0 1 *", "s i1 i1 1 *"]
    schedule = from_msccl(program(gpus))
    verify(schedule)
    assert schedule.num_channels == 1


TWO_BLOCKS: list[Threadblock] = [(1, -1, 0, ["s i0 i0 1"]), (-1, 1, 0, ["r i0 i0 1"])]
FINE = program(exchange(["s i0 i0 2", "rrc i0 i0 2"]))


def test_a_message_of_several_chunks_stays_one() -> None:
    schedule = from_msccl(FINE)
    verify(schedule)
    assert next(iter(schedule)) == Op(0, 0, 0, Kind.SEND, 1, 0, 2)
    assert schedule.num_steps == 1  # an addition waits for the end of the step, so both go at once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE algo [<!ENTITY a "aa">]>' + FINE, "f.xml: a document type or entities"),
        ("<algo", "f.xml: no well-formed XML: unclosed token: line 1, column 0"),
        ("<room/>", "f.xml: the outermost element is <room>, not <algo>"),
        (FINE.replace('gpu id="1"', 'gpu id="2"'), r"f.xml: ngpus is 2, so gpu ids must be 0..1, each once"),
        (FINE.replace('ngpus="2"', 'ngpus="two"'), "f.xml: ngpus is 'two', a whole number is needed"),
        (FINE.replace("allreduce", "allsing"), "f.xml: coll 'allsing' is unknown; known: allreduce"),
        (FINE.replace("allreduce", "custom"), r'"custom" does not say which .*: add commbench_collective="NAME" to'),
        (FINE.replace('ngpus="2"', 'ngpus="99999999999"'), "f.xml: ngpus is 99999999999, so gpu ids must be"),
        (FINE.replace('nchunksperloop="2"', 'nchunksperloop="1000000000000"'), "1000000000000 chunks .*; at most"),
        (FINE.replace('nchunksperloop="2"', 'nchunksperloop="9000000"'), "9000000 chunks .* too many to verify"),
        (FINE.replace('cnt="2"', 'cnt="90000000"'), r"its steps use \d+ chunks \(cnt\); at most"),
        (program(exchange(["s i0 i0 1"]), "alltoall", 3), "f.xml: 3 chunks are not a whole number for each of 2 gpus"),
        (FINE.replace("rrc", "rrr"), "f.xml, gpu 0, tb 0, step 1: type 'rrr' is unknown; known: nop, s"),
        (FINE.replace('cnt="2"', 'cnt="0"'), "f.xml, gpu 0, tb 0, step 0: cnt 0 must be at least 1"),
        (FINE.replace('s="1"', 's="7"'), r"f.xml, gpu 0, tb 0: its steps must be numbered 0..1, in order"),
        (FINE.replace('send="1"', 'send="5"'), r"f.xml, gpu 0, tb 0: send 5 must be another gpu of 0..1, or -1"),
        (FINE.replace('send="1"', 'send="-1"'), "gpu 0, tb 0, step 0: type s in a threadblock with send -1 and recv 1"),
        (FINE.replace('chan="0"', 'chan="-2"'), "f.xml, gpu 0, tb 0: chan -2 must not be negative"),
        (FINE.replace('srcbuf="i"', 'srcbuf="q"'), "f.xml, gpu 0, tb 0, step 0: srcbuf 'q' is unknown; known: i, o, s"),
        (
            program(exchange(["s i1 i0 2"])),
            r"f.xml, gpu 0, tb 0, step 0: src i\[1..2\] is outside i\[0..1\]",
        ),
        (
            program([[(1, -1, 0, ["s i0 i0 1"])] * 2, []]),
            "f.xml, gpu 0, tb 1: another threadblock has send 1 on channel 0 too",
        ),
        (
            program(exchange(["s i0 i0 1 >4.0", "rrc i0 i0 1"])),
            "f.xml, gpu 0, tb 0, step 0: waits for tb 4, step 0, which gpu 0 does not have",
        ),
        (
            program([[(1, -1, 0, ["s i0 i0 1"]), (-1, 1, 0, ["r i0 i0 1 >0.0"])], []]),
            "f.xml, gpu 0, tb 1, step 0: waits for tb 0, step 0, but that one has hasdep 0",
        ),
        (
            program(exchange(["rrc i0 i0 1", "s i0 i0 1"])),
            "f.xml, gpu 0, tb 0, step 0: deadlock: it waits for a message from gpu 1 for ever",
        ),
        (
            program([[(1, -1, 0, ["s i0 i0 1"])], []]),
            "f.xml, gpu 0, tb 0, step 0: gpu 1 never receives it from gpu 0 on channel 0",
        ),
        (
            program([[(1, -1, 0, ["s i0 i0 2"])], [(-1, 0, 0, ["r i0 i0 1"])]]),
            "f.xml, gpu 1, tb 0, step 0: receives 1 chunks where gpu 0, tb 0, step 0 sends 2",
        ),
        (
            program([TWO_BLOCKS, [(0, 0, 0, ["r i0 i0 1", "s i0 i0 1"])]]),
            "",  # in order by way of gpu 1: nothing to complain of
        ),
        (
            program([TWO_BLOCKS, [(0, 0, 0, ["s i0 i0 1", "rrc i0 i0 1"])]]),
            "f.xml, gpu 0, tb 1, step 0: uses a chunk that gpu 0, tb 0, step 0 uses too, and no dependency says",
        ),
    ],
)  # fmt: skip
def test_what_the_reader_refuses(text: str, message: str) -> None:
    if not message:
        from_msccl(text, "f.xml")
        return
    with pytest.raises(ScheduleError, match=message):
        from_msccl(text, "f.xml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"no\.xml: cannot be read"):
        read_msccl(tmp_path / "no.xml")


def test_what_the_writer_refuses() -> None:
    ops = [Op(0, 0, 0, Kind.SEND, 0, 0), Op(1, 0, 0, Kind.RECV, 0, 1)]
    across = Schedule.from_ops("send-recv", "x", 1, 1, ops, window=2, num_buffers=2, output=1)
    with pytest.raises(ScheduleError, match="rank 0 copies across steps"):
        to_msccl(across)


def test_sends_are_buffered() -> None:
    """Both gpus send a chunk and overwrite it: what is sent is copied aside first, and only that."""
    blocks = [[(1, 1, 0, ["s i1 i0 1", "r i0 i1 1"])], [(0, 0, 0, ["s i0 i1 1", "r i1 i0 1"])]]
    schedule = from_msccl(program(blocks, "alltoall"))
    verify(schedule)
    assert (schedule.num_buffers, schedule.num_steps, traffic(schedule)) == (2, 2, Counter({(0, 1): 1, (1, 0): 1}))
    plain = from_msccl(program(exchange(["s i0 i0 1", "rrc i1 i1 1"])))
    assert plain.num_buffers == 1
