# SPDX-License-Identifier: Apache-2.0
"""docs/fluid-or-packets.md: questions of users, answered by both models, and which answer to take.

``python -m tests.network.test_fluid_page`` writes its table anew; the test holds the page to what the code gives.
"""

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from commbench.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "fluid-or-packets.md"
BEGIN, END = "<!-- questions -->\n", "<!-- end of questions -->\n"

RING = "sim all-reduce -t star-8 -b 16M -e 16M --network packet:dcqcn"
SMALL = "sim all-reduce -t star-8 -b 8K -e 8K --network packet"
EXCHANGE = "sim all-to-all -t fat-tree-16 -b 4M -e 4M --network packet:dcqcn"
NARROW = "sim all-to-all -t leaf-spine-16-4to1 -b 4M -e 4M --network packet:dcqcn"
HASHED = "sim all-to-all -t fat-tree-16 -b 4M -e 4M --routing ecmp --network packet:dcqcn"
TREE = "sim all-reduce -a tree -t fat-tree-16 -b 4M -e 4M --network packet"
INCAST = "sim flows incast:7,1M -t star-8 --network packet:dcqcn"
LOSSY = "sim flows incast:7,1M -t star-8 --network packet:none,pfc=off"
PULLED = "sim flows incast:7,1M -t star-8 --network packet:ndp"
SWIFT = "sim flows incast:7,1M -t star-8 --network packet:swift"
COLLIDING, SPRAYED, FLOWLETS, ADAPTIVE, PULLED_SPRAYED = (
    f"sim flows docs/permutation.csv -t fat-tree-16 --routing ecmp --network packet:{how}"
    for how in ("dcqcn", "dcqcn,balance=spray", "dcqcn,balance=flowlet", "dcqcn,balance=adaptive", "ndp,balance=spray")
)
VICTIM = "sim flows docs/victim.csv -t fat-tree-16 --network packet"

QUESTIONS = (
    ("How long does a ring take on a network that does not block?", RING, "fluid: headers are the difference"),
    ("And a small one, where latency counts?", SMALL, "packets, or add a packet a switch: they store and forward"),
    ("All-to-all where nothing is oversubscribed?", EXCHANGE, "fluid, if each step is a permutation, as here"),
    ("All-to-all over uplinks that are 4 to 1?", NARROW, "packets: queues mark, and DCQCN cuts below the fair share"),
    ("What do hash collisions cost?", HASHED, "packets for the time; fluid finds the same links"),
    ("And where each sends to one other alone?", COLLIDING, "packets: DCQCN cuts flows that share a link too deep"),
    ("If switches spray packets instead?", SPRAYED, "packets: fluid leaves each flow on its ECMP route"),
    ("And receivers pull (NDP)?", PULLED_SPRAYED, "packets, if hosts and switches are those of NDP"),
    ("Or flowlets?", FLOWLETS, "packets: senders that are paced leave no gaps, so each flow stays one flowlet"),
    ("Or if each packet takes the shortest queue?", ADAPTIVE, "fluid by d-mod-k, where nothing collides: 339.54 us"),
    ("A tree, cut into slices?", TREE, "either: children meet at their parent's port, and pauses share it fairly"),
    ("Incast of seven, with DCQCN?", INCAST, "packets: each notice halves a rate, and 1 MiB is over before it is back"),
    ("Incast without PFC?", LOSSY, "packets: what is lost is sent again"),
    ("Incast, with delay-based control?", SWIFT, "fluid for the whole; packets for how short the queue stays"),
    ("Incast, where receivers pull (NDP)?", PULLED, "fluid for the whole: the port is never idle, its queue 8 packets"),
    ("Who suffers from the incast of others?", VICTIM, "packets: 5 to 8, whose times these are, stands behind pauses"),
)
"""Question, command, advice."""


def answers(command: str) -> tuple[float, float, dict[str, Any]]:
    """Seconds by packets and by the fluid model, and what was counted. Of the victims file, those of the victim."""
    if "victim" in command:
        both = [_told(f"{command.rsplit(' ', 1)[0]} {network}") for network in ("packet", "fluid")]
        times = [one["completion_s"] for told in both for one in told["slowest"] if (one["src"], one["dst"]) == (5, 8)]
        return times[0], times[1], both[0]["counted"]
    told = _told(command)
    return told["time_s"], told["fluid_time_s"], told["counted"]


def _told(command: str) -> dict[str, Any]:
    found = CliRunner().invoke(app, [*shlex.split(command), "--json"], catch_exceptions=False)
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def table(run: Callable[[str], tuple[float, float, dict[str, Any]]] = answers) -> str:
    """The page's table."""
    lines = ["| question | fluid | packets | | counted | take |", "|---|---|---|---|---|---|"]
    for question, command, advice in QUESTIONS:
        packets_s, fluid_s, counted = run(command)
        seen = [f"queue {counted['deepest_queue_bytes'] / 1024:,.0f} KiB"]
        seen += [f"{counted[name]:,} {name}" for name in ("marks", "pauses", "drops", "trims") if counted[name]]
        seen += [f"{counted['reordered']:,} out of order"] if counted["reordered"] else []
        cells = (
            f"{question}<br>`commbench {command}`",
            f"{fluid_s * 1e6:,.2f} us",
            f"{packets_s * 1e6:,.2f} us",
            f"{packets_s / fluid_s - 1:+.1%}",
            ", ".join(seen),
            advice,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_the_page_shows_what_the_commands_give(monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    text = PAGE.read_text(encoding="utf-8")
    assert text.split(BEGIN)[1].split(END)[0] == table()
    assert len(QUESTIONS) == 16


def test_the_page_names_the_settings_that_there_are() -> None:
    from commbench.network.packet.settings import Packets, keys_of
    from commbench.network.packet.tcp.settings import Tcp

    page, tcp = re.fullmatch(r"(.*)\n## TCP\n(.*)\n## Flows.*", PAGE.read_text(encoding="utf-8"), re.DOTALL).groups()
    for part, kind in ((page, Packets), (tcp, Tcp)):
        assert set(re.findall(r"^\| `(\w+)=", part, re.MULTILINE)) == set(keys_of(kind)) - {"control"}


if __name__ == "__main__":
    os.chdir(ROOT)
    old = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(old.split(BEGIN)[0] + BEGIN + table() + END + old.split(END)[1], encoding="utf-8")
