# SPDX-License-Identifier: Apache-2.0
"""What a packet network is made of, and how users write it: ``packet``, ``packet:dcqcn``, ``packet:swift,mtu=1024``.

Every constant states its source. Thresholds are bytes on the wire, as switches count them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, TypeVar

from commbench.errors import InputError, unknown
from commbench.units import PS_PER_S, parse_size

__all__ = [
    "ADAPTIVE",
    "BALANCES",
    "CONTROLS",
    "DCQCN",
    "FLOW",
    "FLOWLET",
    "NDP",
    "NONE",
    "PREFIX",
    "SPRAY",
    "SWIFT",
    "TCP",
    "Packets",
    "keys_of",
    "parse_packets",
    "read_settings",
    "written_settings",
]

NONE, DCQCN, SWIFT, NDP = range(4)

CONTROLS = ("none", "dcqcn", "swift", "ndp")
"""Congestion controls by number: NONE, DCQCN, SWIFT, NDP."""

FLOW, SPRAY, FLOWLET, ADAPTIVE = range(4)

BALANCES = ("flow", "spray", "flowlet", "adaptive")
"""What decides which way a packet takes, by number: FLOW, SPRAY, FLOWLET, ADAPTIVE."""

PREFIX = "packet"
TCP = "tcp"  # behind the prefix, other packets: packet.tcp


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """One packet network.

    Attributes:
        control: one of CONTROLS: how senders react to congestion.
        mtu_bytes: payload of a full packet; the largest that InfiniBand and RoCE have. Larger ones are packet trains:
            less work, coarser queues.
        header_bytes: of every packet on the wire. RoCE v2: preamble 8, Ethernet 14, IPv4 20, UDP 8, base transport
            header 12, ICRC 4, FCS 4, gap between frames 12 (IEEE 802.3; InfiniBand specification, annex A17).
        pfc: whether links pause (IEEE 802.1Qbb) before buffers are full, so that nothing is lost; else what does not
            fit is dropped, and senders go back to it. With NDP switches trim instead, and there is none.
        xoff_bytes: what has come over one link and waits in the next switch before that link is paused. xon_bytes:
            what is left of it when it may go on. Assumed: switches share their buffer by rules of their own; Zhu et
            al. 2015, section 4, pause at about 100 KB a port and resume two packets below.
        buffer_bytes: of packets that may wait before one link where there is no PFC. Assumed.
        window_bytes: of a message that may be under way and not acknowledged, a packet at least; 0: no limit.
        ecn_min_bytes, ecn_max_bytes, ecn_share: below the first no packet that joins a queue is marked, above the
            second every one, between them a share that grows to ``ecn_share``. 5 KB, 200 KB, 1 % for 40 Gbit/s: Zhu
            et al. 2015, their testbed.
        rto_us: a sender whose data is not acknowledged for so long goes back to it. Assumed: NCCL's own,
            NCCL_IB_TIMEOUT=20, is 4.3 s.
        queue_packets: full packets that may wait before one link where switches trim (NDP): 8, Handley et al. 2017,
            section 3.1.
        first_window: packets that a sender of NDP sends unasked; 0: what its path holds, as in section 3.2 there.
        balance: one of BALANCES: which of the shortest ways packets take; "flow": the route of their message.
        flowlet_us: a packet that follows the one before so much later may take another way. 500: Alizadeh et al.,
            "CONGA", SIGCOMM 2014, section 5; Vanini et al., "Let it flow", NSDI 2017.
        seed: of the hashes that decide which packets are marked, and which way they take.
    """

    control: str = "none"
    mtu_bytes: int = 4096
    header_bytes: int = 82
    pfc: bool = True
    xoff_bytes: int = 256 * 1024
    xon_bytes: int = 248 * 1024
    buffer_bytes: int = 1024 * 1024
    window_bytes: int = 0
    ecn_min_bytes: int = 5_000
    ecn_max_bytes: int = 200_000
    ecn_share: float = 0.01
    rto_us: int = 1000
    queue_packets: int = 8
    first_window: int = 0
    balance: str = "flow"
    flowlet_us: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.control not in CONTROLS:
            named = f"{PREFIX}:{self.control}"
            raise InputError(f"--network {named} {unknown(named, [f'{PREFIX}:{name}' for name in (*CONTROLS, TCP)])}")
        if self.balance not in BALANCES:
            raise InputError(f"--network {PREFIX}: balance={self.balance} {unknown(self.balance, BALANCES)}")
        rules = (
            (self.mtu_bytes >= 1, "mtu", self.mtu_bytes, "must be at least 1 byte"),
            (self.mtu_bytes <= 2**24, "mtu", self.mtu_bytes, "must be at most 16 MiB"),
            (0 <= self.header_bytes <= 2**16, "header", self.header_bytes, "must be 0 to 64 KiB"),
            (0 <= self.xon_bytes <= self.xoff_bytes, "xon", self.xon_bytes, f"must be 0 to xoff ({self.xoff_bytes})"),
            (
                self.buffer_bytes >= self.full_bytes,
                "buffer",
                self.buffer_bytes,
                f"must hold a packet ({self.full_bytes})",
            ),
            (
                0 <= self.ecn_min_bytes <= self.ecn_max_bytes,
                "ecn_min",
                self.ecn_min_bytes,
                f"must be 0 to ecn_max ({self.ecn_max_bytes})",
            ),
            (self.window_bytes >= 0, "window", self.window_bytes, "must be 0 bytes or more"),
            (0.0 <= self.ecn_share <= 1.0, "ecn_share", self.ecn_share, "must be 0 to 1"),
            (1 <= self.rto_us <= 10**7, "rto_us", self.rto_us, "must be 1 to 10,000,000"),
            (1 <= self.queue_packets <= 2**20, "queue_packets", self.queue_packets, "must be 1 to 1,048,576"),
            (0 <= self.first_window <= 2**20, "first_window", self.first_window, "must be 0 to 1,048,576"),
            (1 <= self.flowlet_us <= 10**7, "flowlet_us", self.flowlet_us, "must be 1 to 10,000,000"),
            (
                self.lossless or self.balance == BALANCES[FLOW],
                "balance",
                self.balance,
                "goes with pfc=on, for go-back-N takes packets out of order for lost; give that, or "
                f"balance={BALANCES[FLOW]}",
            ),
            (0 <= self.seed < 2**31, "seed", self.seed, "must be 0 to 2147483647"),
            *self._rules_of_ndp(),
        )
        for holds, key, value, rule in rules:
            if not holds:
                raise InputError(f"--network {PREFIX}: {key}={value}: {rule}")

    def _rules_of_ndp(self) -> tuple[tuple[bool, str, object, str], ...]:
        """What goes with NDP and not without, and the other way round."""
        ndp, named = self.number == NDP, f"{PREFIX}:{CONTROLS[NDP]}"
        only = f"is for {named} alone; give that, or leave it out"
        return (
            (not (ndp and self.pfc), "pfc", "on", f"is not for {named}, whose switches trim packets; leave it out"),
            (not (ndp and self.window_bytes), "window", self.window_bytes, f"is not for {named}: give first_window"),
            (ndp or self.queue_packets == 8, "queue_packets", self.queue_packets, only),
            (ndp or self.first_window == 0, "first_window", self.first_window, only),
        )

    @property
    def number(self) -> int:
        """Of the congestion control."""
        return CONTROLS.index(self.control)

    @property
    def number_of_balance(self) -> int:
        """Of what decides which way a packet takes."""
        return BALANCES.index(self.balance)

    @property
    def full_bytes(self) -> int:
        """Of a full packet on the wire."""
        return self.mtu_bytes + self.header_bytes

    @property
    def lossless(self) -> bool:
        """Whether no packet is lost without its receiver knowing: what comes out of order is then as good."""
        return self.pfc or self.number == NDP

    @property
    def room_bytes(self) -> int:
        """Of packets that may wait before one link that nobody pauses."""
        return self.queue_packets * self.full_bytes if self.number == NDP else self.buffer_bytes

    @property
    def answers(self) -> bool:
        """Whether receivers acknowledge packets: where a window or a loss waits for it."""
        return self.number == SWIFT or not self.lossless or self.window_bytes > 0

    @property
    def window_packets(self) -> int:
        """Of a message that may be under way."""
        return max(self.window_bytes // self.mtu_bytes, 1) if self.window_bytes else 2**31

    def limit(self, bandwidth: float, latency_ps: int) -> int:
        """Bytes that may have come over a link and wait behind it, where it pauses.

        Above the threshold there is headroom for what comes until the pause takes effect (IEEE 802.1Qbb, annex O): a
        latency each way at full speed, the packet that passed the threshold, one that was in sending when the pause
        came, one whose head is ahead of it, and one for rounding to picoseconds.
        """
        return self.xoff_bytes + int(2 * latency_ps * bandwidth / PS_PER_S) + 4 * self.full_bytes

    def deadlock(self, messages: int, paused: Sequence[int]) -> str:
        """The words for messages that no event moves any more."""
        links = ", ".join(map(str, paused[:10])) + (" ..." if len(paused) > 10 else "")
        return (
            f"{messages:,} messages are left in the network, and links {links} are paused for ever: pauses in a circle "
            f"(PFC deadlock). Give --network {PREFIX}:{self.control},pfc=off, or routes without circles"
        )

    @property
    def text(self) -> str:
        """As users write it, with all that is not as by default."""
        but = ("control", "pfc") if self.number == NDP else ("control",)
        return f"{PREFIX}:{','.join([self.control, *written_settings(self, *but)])}"


def keys_of(kind: type) -> dict[str, Field[Any]]:
    """What users write -> the field of a dataclass of settings."""
    return {each.name.removesuffix("_bytes"): each for each in fields(kind)}


def written_settings(given: Any, *but: str) -> list[str]:
    """The settings that are not as by default, as users write them, those of the names ``but`` left out."""
    own = [(key, getattr(given, each.name), each.default) for key, each in keys_of(type(given)).items()]
    return [f"{key}={_written(value)}" for key, value, default in own if key not in but and value != default]


def _written(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], text: str, settings: Sequence[str], given: Mapping[str, Any]) -> Settings:
    """A dataclass of settings from what ``--network text`` has of the form key=value, and what is given besides.

    Raises:
        InputError: a key or value that is not known; says which there are.
    """
    keys = {key: each for key, each in keys_of(kind).items() if key not in given}
    found = dict(given)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key not in keys:
            raise InputError(f"--network {text}: {setting!r} is not key=value; keys: {', '.join(keys)}")
        found[keys[key].name] = _value(text, key, value, keys[key])
    return kind(**found)


def parse_packets(text: str) -> Packets:
    """Read ``packet``, ``packet:CONTROL`` or ``packet:CONTROL,key=value,...``.

    Raises:
        InputError: a control, key or value that is not known; says which there are.
    """
    control, *settings = text.removeprefix(PREFIX).removeprefix(":").split(",")
    if control == CONTROLS[NDP]:
        settings = ["pfc=off", *settings]  # "on" may still be given, and is refused
    return read_settings(Packets, text, settings, {"control": control or CONTROLS[NONE]})


def _value(text: str, key: str, value: str, of: Field[Any]) -> object:
    default, is_size = of.default, of.name.endswith("_bytes")
    if isinstance(default, str):
        return value
    if isinstance(default, bool):
        if value not in ("on", "off"):
            raise InputError(f"--network {text}: {key}={value}: must be on or off")
        return value == "on"
    try:
        if isinstance(default, float):
            return float(value)
        return parse_size(value) if is_size else int(value)
    except (ValueError, InputError):
        kind = "a number" if isinstance(default, float) else "bytes, such as 4096 or 256K"
        kind = kind if is_size or isinstance(default, float) else "a whole number"
        raise InputError(f"--network {text}: {key}={value}: must be {kind}") from None
