# SPDX-License-Identifier: Apache-2.0
"""Small trees of plain hosts by the dozen, as checked documents: every kind, odd shapes, a different number everywhere.

No two tiers share a bandwidth or a latency, so that a link put on the wrong tier shows.
"""

from typing import Any

from hypothesis import strategies as st

from commbench.topology.build import build_fabric
from commbench.topology.fabric import Fabric
from commbench.topology.schema import TopologyFile

SMALL = st.integers(1, 4)
RATIOS = st.sampled_from([0.5, 1.0, 1.5, 7.0, 30.0])


def quantity(text: str) -> dict[str, str]:
    return {"value": text, "provenance": "assumed", "source": "made for a test"}


def link(bandwidth: str, latency: str) -> dict[str, Any]:
    return {"bandwidth": quantity(bandwidth), "latency": quantity(latency)}


def document(fabric: dict[str, Any], nics: int = 1, downlink: str = "97 Gbit/s") -> TopologyFile:
    """A topology file of plain hosts under ``fabric``, whose links are filled in."""
    num_derived = {"star": 0, "leaf-spine": 1, "fat-tree": 2, "three-tier": 2}[fabric["kind"]]
    derived = [("uplink", {"latency": quantity("500 ns")}), ("core_link", {"latency": quantity("700 ns")})]
    host = {"wiring": "plain", "nics": nics, "bus": link("101 Gbit/s", "200 ns")}
    links = {"downlink": link(downlink, "300 ns")} | dict(derived[:num_derived])
    return TopologyFile.model_validate(
        {
            "name": "made",
            "description": "made.",
            "routing": "d-mod-k",
            "host": host,
            "fabric": fabric | links,
            "costs": {"message_overhead": quantity("3 us"), "reduction": quantity("7 GB/s")},
        }
    )


@st.composite
def fabrics(draw: st.DrawFn) -> dict[str, Any]:
    """Kind and counts of a fabric of 1 to 64 hosts."""
    ratios = {"leaf": draw(RATIOS), "spine": draw(RATIOS)}
    match draw(st.sampled_from(["star", "leaf-spine", "fat-tree", "three-tier"])):
        case "star":
            return {"kind": "star", "hosts": draw(st.integers(1, 9))}
        case "leaf-spine":
            per_leaf, leaves = draw(SMALL), draw(st.integers(1, 5))
            spines = draw(st.integers(1, 5))
            return {
                "kind": "leaf-spine",
                "hosts": per_leaf * leaves,
                "hosts_per_leaf": per_leaf,
                "spines": spines,
                "oversubscription": ratios["leaf"],
            }
        case "fat-tree":
            return {"kind": "fat-tree", "k": draw(st.sampled_from([2, 4])), "oversubscription": ratios}
        case _:
            per_leaf, leaves, spines, plane = (draw(SMALL) for _ in range(4))
            return {
                "kind": "three-tier",
                "hosts": per_leaf * leaves * draw(SMALL),
                "hosts_per_leaf": per_leaf,
                "leaves_per_pod": leaves,
                "spines_per_pod": spines,
                "cores": spines * plane,
                "oversubscription": ratios,
            }


@st.composite
def trees(draw: st.DrawFn) -> Fabric:
    """A tree of 1 to 64 hosts of one to three NICs, in one plane or several."""
    planes = {"planes": draw(st.sampled_from([1, 1, 2, 3]))}
    return build_fabric(document(draw(fabrics()) | planes, nics=draw(st.integers(1, 3))), "a test")
