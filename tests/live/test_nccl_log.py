# SPDX-License-Identifier: Apache-2.0
"""What NCCL's debug log tells of the network, and how it gets into records; logs in the form of NCCL's source."""

import os
from pathlib import Path
from typing import Any

import pytest

from commbench.live.nccl_log import NcclLog, Transports, merged, read_transports
from commbench.results.environment import differences_by_rank, differing_note

HOST = "node7:4242:4300 [0] NCCL INFO "
INFINIBAND = [
    "NCCL version 2.27.5+cuda12.9",
    HOST + "NET/Plugin: Could not find: libnccl-net.so.",
    HOST + "NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/RoCE [RO]; OOB eth0:10.0.0.7<0>",
    HOST + "Using network IB",
    HOST + "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
    HOST + "Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
    HOST + "Channel 00/0 : 7[7] -> 8[0] [receive] via NET/IB/0/GDRDMA",
    HOST + "Channel 00/0 : 0[0] -> 15[7] [send] via NET/IB/1/GDRDMA",
    HOST + "Connected all rings, use ring PXN 0 GDR 1",
]
SOCKETS = [
    HOST + "NET/IB : No device found.",
    HOST + "NET/Socket : Using [0]eth0:10.0.0.7<0> [1]eth1:10.1.0.7<0>",
    HOST + "Initialized NET plugin Socket",
    HOST + "Channel 00 : 1[a000] -> 0[9000] via SHM/direct/direct",
    HOST + "Channel 00/0 : 1[0] -> 2[0] [send] via NET/Socket/0",
]


def test_network_nics_and_transports_are_read() -> None:
    assert read_transports(INFINIBAND) == Transports(
        "IB", ("mlx5_0:1/IB", "mlx5_1:1/RoCE"), {"P2P/CUMEM/read": 2, "NET/IB/1/GDRDMA": 1}
    )
    assert read_transports(SOCKETS) == Transports(
        "Socket", ("eth0:10.0.0.7<0>", "eth1:10.1.0.7<0>"), {"SHM/direct/direct": 1, "NET/Socket/0": 1}
    )
    assert read_transports(["[2026] some other line via nothing"]) == Transports()


def test_ranks_are_told_together_and_their_nics_apart_where_they_differ() -> None:
    fast, slow = read_transports(INFINIBAND), read_transports(SOCKETS)
    found = merged([fast, fast])
    assert found["channels"] == {"NET/IB/1/GDRDMA": 2, "P2P/CUMEM/read": 4}
    assert (found["network"], found["nics_by_rank"]) == ("IB", {})
    apart = merged([fast, slow])
    assert apart["network"] == "IB, Socket"
    assert apart["nics_by_rank"] == {"0": "mlx5_0:1/IB mlx5_1:1/RoCE", "1": "eth0:10.0.0.7<0> eth1:10.1.0.7<0>"}
    assert merged([None, None]) == {}


def test_nccl_logs_into_a_file_unless_the_user_has_it_log(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NCCL_DEBUG", "NCCL_DEBUG_FILE", "NCCL_DEBUG_SUBSYS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    log = NcclLog()
    assert log.read() is None
    log.begin()
    path = Path(os.environ["NCCL_DEBUG_FILE"])
    path.write_text("\n".join(SOCKETS), encoding="utf-8")
    found = log.read()
    assert found is not None
    assert (found.network, os.environ["NCCL_DEBUG"]) == ("Socket", "INFO")
    log.end()
    assert not path.exists()
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    monkeypatch.delenv("NCCL_DEBUG_FILE")
    own = NcclLog()
    own.begin()
    assert "NCCL_DEBUG_FILE" not in os.environ
    assert own.read() is None


def test_a_rank_tells_what_rank_0_has_not() -> None:
    first: dict[str, Any] = {"hostname": "a", "torch": "2.4", "load_1min": 0.1, "variables": {"NCCL_ALGO": "Ring"}}
    same = first | {"hostname": "b", "load_1min": 3.0}
    other = same | {"torch": "2.5", "variables": {"NCCL_ALGO": "Ring", "NCCL_IB_HCA": "mlx5"}}
    unset = same | {"variables": {"CUDA_VISIBLE_DEVICES": "3"}}
    apart = differences_by_rank([first, same, other, unset])
    assert apart == {
        "2": {"torch": "2.5", "variables": {"NCCL_IB_HCA": "mlx5"}},
        "3": {"variables": {"CUDA_VISIBLE_DEVICES": "3", "NCCL_ALGO": None}},
    }
    (note,) = differing_note(apart)
    assert note.startswith("warning: ")
    assert "torch (rank 2), NCCL_IB_HCA (rank 2), NCCL_ALGO (rank 3);" in note
    assert differing_note({"3": {"variables": {"CUDA_VISIBLE_DEVICES": "3"}}}) == []


def transports_of_strict(folder: Path, rank: int, num_ranks: int, store: str) -> list[Any]:
    """Records on the strict backend, which stands in for an NCCL that has told what it chose."""
    from commbench.live.collective import measure_collective
    from commbench.live.plan import Plan
    from commbench.live.progress import Progress
    from commbench.live.rank_info import RankInfo
    from commbench.live.session import open_session

    pytest.MonkeyPatch().setattr("commbench.live.backend.Strict.transports", lambda _: read_transports(SOCKETS))
    plan = Plan(collective="all-reduce", ranks=num_ranks, sizes_bytes=(64,), out=folder / "r.jsonl", run="r", iters=1,
                warmup=0, backend="strict")  # fmt: skip
    session = open_session(plan, RankInfo("test", rank, num_ranks, local_rank=rank, store=Path(store)), 60.0)
    return [record.environment.get("transports") for record in measure_collective(plan, session, Progress())]


@pytest.mark.live
def test_what_the_library_chose_stands_in_the_record(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from groups import in_world

    (told,), other = in_world(2, tmp_path, transports_of_strict, tmp_path)
    assert not other
    assert told["channels"] == {"NET/Socket/0": 2, "SHM/direct/direct": 2}
