# SPDX-License-Identifier: Apache-2.0
"""Ranks in network namespaces that run torch's gloo and count what they send; test_gloo_bytes.py starts them.

Every rank is a process in a namespace of its own, whose only way out is an ``eth0``; a bridge in one more namespace
joins them. So the counters of a rank's ``eth0`` hold what this rank sent, and nothing else: neighbours are fixed, IPv6
is off, and the ranks meet by way of files. The namespaces have no names: they are gone when their processes are,
however these end.

Two counts: over many iterations the interface's counters; and for one iteration the packets themselves, read from a
packet socket and taken apart into gloo's messages. TCP's selective acknowledgements are off, so that every packet has
headers of the same length.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = get_context("fork")
NEW_NETWORK = 0x40000000  # CLONE_NEWNET, linux/sched.h
ITERATIONS = 10
PREAMBLE = struct.Struct("<6Q")  # gloo's message: nbytes, opcode, slot, offset, length, roffset; then the payload
DATA, SEND_READY, RECV_READY = 1, 2, 3  # opcodes
ELEMENT = 4


@dataclass(frozen=True)
class Case:
    """One collective at one size, that of the full buffer; ``lists`` takes the torch call on lists of tensors."""

    collective: str
    num_bytes: int
    root: int = 0
    lists: bool = False


@dataclass(frozen=True)
class Counted:
    """What one rank counted.

    Attributes:
        bytes, packets: that left its interface in all iterations. retransmitted: TCP segments sent again in them.
        data: payloads of the messages of one iteration, in order, by peer. notices: how many of each, by peer.
    """

    bytes: int
    packets: int
    retransmitted: int
    data: dict[str, list[int]]
    notices: dict[str, list[int]]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def hub(n: int, folder: str) -> None:
    """In the namespace of the bridge: start the ranks, join them, and wait for them."""
    _die_with_parent()
    _ip("link add hub type bridge")
    _ip("link set hub up")
    import torch.distributed  # noqa: F401  once for all ranks, which are forked

    ranks: list[tuple[BaseProcess, Connection]] = []
    for rank in range(n):
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(target=rank_main, args=(n, folder, rank, there), daemon=True)
        process.start()
        ranks.append((process, here))
        assert here.recv() == "inside"  # its namespace is there
        _ip(f"link add rank{rank} type veth peer name eth0 netns {process.pid}")
        _ip(f"link set rank{rank} master hub up")
    for _, here in ranks:
        here.send("joined")
    codes = [None]
    while None in codes and not any(codes):
        time.sleep(0.01)
        codes = [process.exitcode for process, _ in ranks]
    raise SystemExit(any(codes))  # one that has failed ends the others


def mac(rank: int) -> str:
    return f"02:00:00:00:00:{rank + 1:02x}"


def rank_main(n: int, folder: str, rank: int, hub: Connection) -> None:
    """One rank, in its own namespace."""
    _die_with_parent()
    assert ctypes.CDLL(None).unshare(NEW_NETWORK) == 0
    hub.send("inside")
    assert hub.recv() == "joined"
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")  # no neighbour discovery of its own
    Path("/proc/sys/net/ipv4/tcp_sack").write_text("0")
    _ip(f"link set eth0 address {mac(rank)} up")
    _ip("link set lo up")
    _ip(f"addr add 10.0.0.{rank + 1}/24 dev eth0")
    for peer in set(range(n)) - {rank}:  # no ARP among the counted packets
        _ip(f"neigh replace 10.0.0.{peer + 1} lladdr {mac(peer)} nud permanent dev eth0")
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=n)
    meet = partial(_meet, folder, n, rank, count())
    given = [Case(**case) for case in json.loads(Path(folder, "cases").read_text())]
    counted = [asdict(_count(operation(case, n, rank), meet)) for case in given]
    Path(folder, f"counted{rank}").write_text(json.dumps(counted))
    meet()


def _meet(folder: str, n: int, rank: int, rounds: Iterator[int]) -> None:
    """Wait for all ranks by way of files, so that nothing of it is on the network."""
    number = next(rounds)
    Path(folder, f"met-{number}-{rank}").touch()
    while not all(Path(folder, f"met-{number}-{peer}").exists() for peer in range(n)):
        time.sleep(0.001)


def _count(run: Callable[[], object], meet: Callable[[], None]) -> Counted:
    run()
    meet()
    before = _counters()
    meet()
    for _ in range(ITERATIONS):
        run()
    meet()
    after = _counters()
    with _tap() as packets:
        meet()
        run()
        meet()
        streams = _streams(packets)
    data: dict[str, list[int]] = {}
    notices: dict[str, list[int]] = {}
    for peer, stream in streams.items():
        messages = list(_messages(stream))
        data[str(peer)] = [length for opcode, length in messages if opcode == DATA]
        kinds = Counter(opcode for opcode, _ in messages)
        notices[str(peer)] = [kinds[SEND_READY], kinds[RECV_READY]]
        assert kinds.keys() <= {DATA, SEND_READY, RECV_READY}
    return Counted(*(b - a for a, b in zip(before, after, strict=True)), data, notices)


def _counters() -> tuple[int, int, int]:
    """Bytes and packets that have left eth0, and TCP segments sent again."""
    (line,) = [line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("eth0:")]
    fields = line.split(":")[1].split()
    names, values = [
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    ]
    return int(fields[8]), int(fields[9]), int(values[names.index("RetransSegs")])


@contextmanager
def _tap() -> Iterator[socket.socket]:
    """A packet socket that hears eth0, with room for one iteration."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as packets:
        packets.setsockopt(socket.SOL_SOCKET, 33, 2**28)  # SO_RCVBUFFORCE
        packets.bind(("eth0", 0x0003))
        packets.setblocking(False)
        yield packets
        _, lost = struct.unpack("II", packets.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
        assert lost == 0, f"{lost} packets were not seen"


def _streams(packets: socket.socket) -> dict[int, bytes]:
    """What this rank sent to each peer, the packets put together by their sequence numbers."""
    parts: dict[int, dict[int, bytes]] = defaultdict(dict)
    while True:
        try:
            packet, (_, protocol, kind, *_rest) = packets.recvfrom(2**17)
        except BlockingIOError:
            break
        if kind != socket.PACKET_OUTGOING or protocol != 0x0800:
            continue
        tcp = 14 + (packet[14] & 15) * 4
        payload = packet[tcp + (packet[tcp + 12] >> 4) * 4 : 14 + struct.unpack_from(">H", packet, 16)[0]]
        if payload:
            part = parts[packet[33] - 1]
            sequence = struct.unpack_from(">I", packet, tcp + 4)[0]
            part[sequence] = max(payload, part.get(sequence, b""), key=len)
    return {peer: _in_order(part) for peer, part in parts.items()}


def _in_order(part: dict[int, bytes]) -> bytes:
    """The stream from packets by sequence number, which may wrap; what was sent again is taken once."""
    anchor = next(iter(part))
    stream = bytearray()
    places = {((sequence - anchor + 2**31) % 2**32) - 2**31: payload for sequence, payload in part.items()}
    start = min(places)
    for place, payload in sorted(places.items()):
        have = len(stream) + start - place
        assert have >= 0, "a packet is missing"
        stream += payload[have:]
    return bytes(stream)


def _messages(stream: bytes) -> Iterator[tuple[int, int]]:
    """(opcode, payload bytes) of gloo's messages."""
    at = 0
    while at < len(stream):
        size, opcode, _, _, length, _ = PREAMBLE.unpack_from(stream, at)
        assert size == PREAMBLE.size + (length if opcode == DATA else 0)
        yield opcode, length
        at += size
    assert at == len(stream)


def operation(case: Case, n: int, rank: int) -> Callable[[], object]:
    """The torch call of a case."""
    import torch
    import torch.distributed as dist

    whole = torch.zeros(case.num_bytes // ELEMENT)
    other = torch.zeros_like(whole)
    own = torch.zeros(len(whole) // n)
    blocks = list(other.chunk(n)) if rank == case.root and len(whole) >= n else None

    def shift() -> None:
        works = [dist.isend(whole, (rank + 1) % n), dist.irecv(other, (rank - 1) % n)]
        for work in works:
            work.wait()

    if case.lists:
        pieces, others = list(whole.chunk(n)), list(other.chunk(n))
        of_lists: dict[str, Callable[[], object]] = {
            "reduce-scatter": lambda: dist.reduce_scatter(own, pieces),
            "all-gather": lambda: dist.all_gather(pieces, own),
            "all-to-all": lambda: dist.all_to_all(others, pieces),
        }
        return of_lists[case.collective]
    calls: dict[str, Callable[[], object]] = {
        "all-reduce": lambda: dist.all_reduce(whole),
        "reduce-scatter": lambda: dist.reduce_scatter_tensor(own, whole),
        "all-gather": lambda: dist.all_gather_into_tensor(whole, own),
        "broadcast": lambda: dist.broadcast(whole, case.root),
        "reduce": lambda: dist.reduce(whole, case.root),
        "all-to-all": lambda: dist.all_to_all_single(other, whole),
        "gather": lambda: dist.gather(own, blocks, case.root),
        "scatter": lambda: dist.scatter(own, blocks, case.root),
        "send-recv": shift,
        "barrier": dist.barrier,
    }
    return calls[case.collective]


if __name__ == "__main__":
    hub(int(sys.argv[1]), sys.argv[2])
