# SPDX-License-Identifier: Apache-2.0
"""Traces of one rank: what is read of them, what they wait for, the groups of the others, and what is refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from commbench.errors import InputError
from commbench.workload.traces.chakra_binary import chakra_documents
from commbench.workload.traces.read import read_trace
from commbench.workload.traces.recorded import RecordedTrace, program_of, world_groups

US = 10**6
MIB = 2**20


def kernel(name: str, start: float, lasts: float, stream: int, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": "kernel", "name": name, "ts": start, "dur": lasts, "args": {"stream": stream} | args}


def nccl(start: float, lasts: float, *, what: str = "allreduce", count: int = MIB, **args: Any) -> dict[str, Any]:
    told = {"Collective name": what, "In msg nelems": count, "Out msg nelems": count, "dtype": "BFloat16"}
    given = told | {"Group size": 4, "Process Group Name": "0"} | args
    return kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(...)", start, lasts, 20, **given)


def kineto(*events: dict[str, Any], ranks: tuple[int, ...] = (0, 1, 2, 3), world: int = 4) -> dict[str, Any]:
    """A trace with some of what torch.profiler writes beside."""
    groups = [{"pg_name": "0", "pg_desc": "default_pg", "pg_size": len(ranks), "ranks": list(ranks)}]
    return {
        "schemaVersion": 1,
        "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": world, "pg_config": groups},
        "traceEvents": [
            {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "python"}},
            {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 5, "pid": 1, "tid": 1},
            {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#3", "ts": 0, "dur": 400, "pid": 1, "tid": 1},
            *events,
        ],
    }


STEP = (
    kernel("gemm", 100, 100, 7),
    nccl(210, 80),
    kernel("gemm", 205, 20, 7),  # beside the collective
    kernel("adam", 300, 50, 7),  # after it: its stream was idle until then
)


def read(tmp_path: Path, document: Any) -> RecordedTrace:
    path = tmp_path / "trace.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_trace(path)


def test_kernels_wait_for_their_stream_and_for_what_ended_while_it_was_idle(tmp_path: Path) -> None:
    found = read(tmp_path, kineto(*STEP))
    first, beside, collective, last = found.operations
    assert [one.name for one in (first, beside, last)] == ["gemm", "gemm", "adam"]
    assert (first.after, first.delay_ps) == ((), 0)
    assert (beside.after, beside.delay_ps) == ((), 5 * US)
    assert (collective.after, collective.delay_ps) == ((0,), 10 * US)  # NCCL's waits for the compute that had ended
    assert (last.after, last.delay_ps) == ((2,), 10 * US)
    assert (found.world, found.rank, found.steps, found.length_ps) == (4, 0, 1, 250 * US)


def test_collectives_have_kind_bytes_and_ranks(tmp_path: Path) -> None:
    events = (
        nccl(0, 1), nccl(2, 1, what="_allgather_base", **{"Out msg nelems": 4 * MIB}),
        nccl(4, 1, what="reduce_scatter_tensor_coalesced", count=8), nccl(6, 1, what="all_to_allv", dtype="Float"),
    )  # fmt: skip
    found = [one.collective for one in read(tmp_path, kineto(*events)).operations]
    assert [one and (one.kind, one.num_bytes, one.group) for one in found] == [
        ("all-reduce", 2 * MIB, (0, 1, 2, 3)), ("all-gather", 8 * MIB, (0, 1, 2, 3)),
        ("reduce-scatter", 16, (0, 1, 2, 3)), ("all-to-all", 4 * MIB, (0, 1, 2, 3)),
    ]  # fmt: skip


def test_collectives_without_sizes_keep_their_time_and_are_counted(tmp_path: Path) -> None:
    without = kernel("ncclDevKernel_SendRecv(...)", 300, 30, 20)
    elsewhere = nccl(400, 1, **{"Process Group Name": "9", "Group size": 2})
    found = read(tmp_path, kineto(*STEP, without, elsewhere))
    assert [one.collective is None for one in found.operations if one.stream == "stream 20"] == [False, True, True]
    assert any(note.startswith("2 of 3 kernels of NCCL say no collective with a size") for note in found.notes)
    assert any(note.startswith("it is of one rank") for note in found.notes)


def test_a_compressed_trace_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps(kineto(*STEP)).encode()))
    assert read_trace(path).operations == read(tmp_path, kineto(*STEP)).operations


@pytest.mark.parametrize(
    ("group", "world", "expected"),
    [
        ((), 4, [[0, 1, 2, 3]]),
        ((2, 3), 8, [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ((1, 3), 8, [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ((0, 4), 8, [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ],
)
def test_the_groups_of_the_others_are_copies(group: tuple[int, ...], world: int, expected: list[list[int]]) -> None:
    assert world_groups(group, world, "t.json").tolist() == expected


@pytest.mark.parametrize(("group", "world"), [((0, 1, 3), 6), ((1, 2), 4), ((0, 1, 2), 4), ((0, 9), 8), ((-1, 0), 4)])
def test_groups_that_fill_no_world_are_refused(group: tuple[int, ...], world: int) -> None:
    with pytest.raises(InputError, match=r"t.json: group .* the groups of the others cannot be told from it"):
        world_groups(group, world, "t.json")


def test_one_rank_of_the_program_stands_for_all(tmp_path: Path) -> None:
    program = program_of(read(tmp_path, kineto(*STEP, ranks=(0, 1), world=8)), 8)
    assert program.num_ranks == 1
    assert program.represented_by is not None
    assert len(program.represented_by) == 8
    assert program.communications == ()  # 4 ranks are said, of a group of 2: not believed
    program = program_of(read(tmp_path, kineto(*STEP, world=8)), 8)
    assert [one.groups.tolist() for one in program.communications] == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


def node(number: int, kind: str, lasts: int = 0, waits: tuple[int, ...] = (), **attributes: Any) -> dict[str, Any]:
    """As the JSON of protobuf writes it: numbers of 64 bits as text, empty lists left out."""
    attr = [{"name": name, "int64Val": value} for name, value in attributes.items()]
    named = {"id": str(number), "name": f"n{number}", "type": f"{kind}_NODE"}
    found = named | {"durationMicros": str(lasts), "attr": attr}
    return found | ({"dataDeps": [str(one) for one in waits]} if waits else {})


CHAKRA = (
    {"version": "0.0.4"},
    node(1, "COMP", 100),
    node(3, "COMP", 50, (2,)),
    node(2, "COMM_COLL", 0, (1,), comm_type=0, comm_size="4194304"),
    node(4, "COMP", 30, (1,)),
)


def chakra(*nodes: dict[str, Any]) -> str:
    return "\n".join(json.dumps(one, indent=2) for one in nodes)


def test_chakra_nodes_wait_for_what_they_name(tmp_path: Path) -> None:
    found = read(tmp_path, chakra(*CHAKRA))
    assert [(one.name, one.after, one.duration_ps) for one in found.operations] == [
        ("n1", (), 100 * US), ("n2", (0,), 0), ("n4", (0,), 30 * US), ("n3", (1,), 50 * US),
    ]  # fmt: skip
    sent = found.operations[1].collective
    assert sent is not None
    assert (sent.kind, sent.num_bytes, sent.group) == ("all-reduce", 4 * MIB, ())
    assert found.world == 0
    assert found == read(tmp_path, json.dumps(CHAKRA))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "is empty"),
        ("hello", "is no JSON, which traces are written in"),
        (json.dumps(kineto(*STEP))[:-30], "line 1: is no JSON: "),
        (json.dumps(kineto(*STEP))[:-1], "the file ends there, as if it had been cut: export the trace again"),
        (chakra(*CHAKRA)[:-3], "the file ends there, as if it had been cut: export the trace again"),
        ({"nodes": []}, "is no trace that is known: torch.profiler's has traceEvents"),
        (kineto(), "holds no kernels of a GPU, which a step consists of: profile with ProfilerActivity.CUDA"),
        (kineto({"ph": "X", "cat": "kernel", "name": "gemm", "ts": 1}), "kernel 'gemm' has no ts and dur"),
        (kineto({"ph": "X", "cat": "kernel", "name": "gemm", "ts": 10**400, "dur": 1}), "has no ts and dur"),
        (kineto(kernel("gemm", 1, -5, 7)), "kernel 'gemm' starts at 1.0 us and lasts -5.0 us, which cannot be"),
        (chakra(node(1, "COMP", 5), node(2, "COMP", 5, (9,))), "node 2 waits for node 9, which is not there"),
        (chakra(node(1, "COMP", 5, (2,)), node(2, "COMP", 5, (1,))), "node 1 waits for itself in the end"),
        (chakra(node(1, "COMM_SEND", 5)), "node 1 is a transfer, whose partner's trace is another file; not read"),
        (chakra(node(1, "COMM_COLL", 5, comm_type=0)), "node 1: a collective without a size: comm_size"),
        (chakra(node(1, "COMM_COLL", 5, comm_type=77, comm_size="8")), "node 1: comm_type 77 is unknown"),
        (chakra(node(1, "COMP", 0), node(2, "COMM_COLL", 0, comm_type=0, comm_size="8")), "no node says how long it"),
        (chakra(node(1, "MEM_LOAD", 0)), "no node says how long it computes"),
        (chakra(node(1, "JUMP", 5)), "node 1 has type 'JUMP_NODE'; known: METADATA_NODE"),
    ],
)
def test_what_is_no_whole_trace_is_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, document)
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "trace.json"))


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    part = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(part)) + part


def binary(*documents: dict[str, Any], packed: bool = True) -> bytes:
    """The same nodes as protobuf keeps them, each behind its length; repeated numbers packed, or one by one."""
    kinds = {"COMP_NODE": 4, "COMM_SEND_NODE": 5, "COMM_COLL_NODE": 7}
    whole = b""
    for one in documents:
        if "version" in one:
            message = field(1, one["version"])
        else:
            waits = [int(each) for each in one.get("dataDeps", ())]
            deps = [b"".join(map(varint, waits))] if packed and waits else waits
            attributes = [field(1, each["name"]) + field(9, int(each["int64Val"])) for each in one["attr"]]
            message = b"".join(
                [field(1, int(one["id"])), field(2, one["name"]), field(3, kinds[one["type"]]),
                 *(field(5, each) for each in deps), field(7, int(one["durationMicros"])),
                 varint(6 << 3 | 1) + b"\xff" * 8, varint(99 << 3 | 5) + b"\xff" * 4,  # what is not read is passed over
                 *(field(10, each) for each in attributes)]
            )  # fmt: skip
        whole += varint(len(message)) + message
    return whole


@pytest.mark.parametrize("packed", [True, False])
def test_the_binary_form_of_chakra_is_the_same_trace(packed: bool, tmp_path: Path) -> None:
    path, nodes = tmp_path / "trace.json", (*CHAKRA, node(5, "COMP", 10, (3, 4)))
    path.write_bytes(binary(*nodes, packed=packed))
    found = read_trace(path)
    assert found == read(tmp_path, chakra(*nodes))
    path.write_bytes(gzip.compress(binary(*nodes)))
    assert read_trace(path) == found


def test_attributes_of_every_kind_of_whole_number() -> None:
    """int64 -2, uint64, sint64 (zigzag), fixed64, bool and a string; as protobuf.dev has them."""
    values = [(9, 2**64 - 2), (13, 2**64 - 1), (17, 3), (27, 1), (29, "text")]
    attributes = [field(1, f"a{number}") + field(number, value) for number, value in values]
    attributes.append(field(1, "a21") + varint(21 << 3 | 1) + (2**40).to_bytes(8, "little"))
    message = field(1, 5) + field(3, 12) + b"".join(field(10, each) for each in attributes)
    head, read_node = chakra_documents(binary({"version": "1.1.0"}) + varint(len(message)) + message, "x.et")
    assert (head, read_node["id"], read_node["type"]) == ({"version": "1.1.0"}, 5, "12")
    assert {each["name"]: each["value"] for each in read_node["attr"]} == {
        "a9": -2, "a13": 2**64 - 1, "a17": -2, "a27": True, "a29": "text", "a21": 2**40,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (binary(*CHAKRA)[:-3], "the file ends in the middle of a message: copy it again"),
        (b"\x02\x0f\x00", "byte 0: is no trace in Chakra's binary form: a field of kind 7"),
        (b"\x02\x0a\x05", "byte 0: is no trace in Chakra's binary form: a field that is longer than its message"),
        (b"\x01" + b"\xff" * 20, "is no trace in Chakra's binary form: a number that does not end"),
        (binary(CHAKRA[0]), "holds no nodes, as Chakra's traces do"),
    ],
)
def test_what_is_no_whole_binary_trace_is_refused(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rank.0.et"
    path.write_bytes(raw)
    with pytest.raises(InputError) as error:
        read_trace(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))


def test_a_trace_of_collectives_alone_is_one(tmp_path: Path) -> None:
    """As those that ASTRA-sim is tried with: what is sent is simulated, and nothing is computed."""
    found = read(tmp_path, chakra(node(1, "METADATA"), node(2, "COMM_COLL", 0, comm_type=2, comm_size="1024")))
    assert [one.collective is not None for one in found.operations] == [False, True]
