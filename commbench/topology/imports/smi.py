# SPDX-License-Identifier: Apache-2.0
"""``nvidia-smi topo -m``: how the GPUs and NICs of one host reach each other."""

import re
from collections import Counter
from collections.abc import Sequence

from commbench.errors import TopologyError
from commbench.topology.imports.base import Imported, listed, most_common

__all__ = ["import_smi"]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CELL = re.compile(r"X|NV\d{1,3}|PIX|PXB|PHB|NODE|SYS|SOC")
_HEAD = re.compile(r"GPU\d{1,3}|NIC\d{1,3}|mlx\d?_\w{1,20}|\w{1,20}_\d{1,3}")
_LEGEND = re.compile(r"^\s*(NIC\d{1,3}):\s*(\S{1,40})")
_NEAR = ("PIX", "PXB")


def import_smi(text: str, place: str) -> Imported:
    """The matrix: NVLinks of each GPU, which NICs are near.

    Raises:
        TopologyError: a row that has not a cell for every column, or a cell that is none; names the line.
    """
    names, rows, legend = _matrix(_ANSI.sub("", text), place)
    gpus = [name for name in names if name.startswith("GPU")]
    nics = [name for name in names if not name.startswith("GPU")]
    odd = list[str]()
    lost = [name for name in gpus if name not in rows]
    if lost:
        odd.append(f"no row of {listed(lost)}: the matrix was cut")
    cells_of = {name: dict(zip(names, row, strict=True)) for name, row in rows.items()}
    links = {gpu: {peer: cells_of[gpu][peer] for peer in gpus} for gpu in gpus if gpu in rows}
    for gpu, cells in links.items():
        uneven = [peer for peer, cell in cells.items() if peer in links and links[peer].get(gpu) not in (cell, None)]
        if uneven:
            odd.append(f"{gpu} and {listed(uneven)} say different things of each other")
        if cells.get(gpu, "X") != "X":
            odd.append(f"{gpu} to itself is {cells[gpu]}, not X")
    nvlinks = {gpu: [int(cell[2:]) for cell in cells.values() if cell.startswith("NV")] for gpu, cells in links.items()}
    totals = {gpu: tuple(sorted(found)) for gpu, found in nvlinks.items()}
    if len(set(totals.values())) > 1:
        usual = most_common(list(totals.values()))
        others = listed(gpu for gpu, total in totals.items() if total != usual)
        odd.append(f"NVLinks of {others} are not as those of the other GPUs")
    near = {gpu: [legend.get(nic, nic) for nic in nics if cells_of[gpu][nic] in _NEAR] for gpu in links}
    if nics and (far := [gpu for gpu, found in near.items() if not found]):
        odd.append(f"no NIC under a PCIe switch with {listed(far)}: traffic crosses a host bridge")
    pairs = Counter(links[a][b] for i, a in enumerate(gpus) for b in gpus[i + 1 :] if a in links)
    facts = (
        ("GPUs", f"{len(gpus)}; pairs: {', '.join(f'{n} x {cell}' for cell, n in sorted(pairs.items()))}"),
        ("NICs", f"{len(nics)}: {listed(legend.get(nic, nic) for nic in nics)}" if nics else "0"),
        ("NICs near a GPU", str(most_common([len(found) for found in near.values()])) if near else "0"),
    )
    why = "the matrix has neither rates nor the GPU's name; give NCCL's topology XML (NCCL_TOPO_DUMP_FILE) for a file"
    return Imported("nvidia-smi topo -m", facts, tuple(odd), "", why)


def _matrix(text: str, place: str) -> tuple[list[str], dict[str, Sequence[str]], dict[str, str]]:
    """Column names, the cells of each row, and what the legend calls the NICs."""
    names, rows, legend = list[str](), dict[str, Sequence[str]](), dict[str, str]()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if match := _LEGEND.match(line):
            legend[match[1]] = match[2]
        elif not names and len(words) > 1 and words[0] == "GPU0" and not _CELL.fullmatch(words[1]):
            names = [word for word in words if _HEAD.fullmatch(word)]
        elif not names and words == ["GPU0"]:
            names = ["GPU0"]
        elif words and words[0] in names and len(words) > 1:
            cells = words[1 : 1 + len(names)]
            bad = [cell for cell in cells if not _CELL.fullmatch(cell)]
            if len(cells) < len(names) or bad:
                what = f"{bad[0]!r} is no link" if bad else f"{len(cells)} cells for {len(names)} columns"
                raise TopologyError(f"{place}, line {number}: {what} in the row of {words[0]}")
            rows[words[0]] = cells
    if not any(name in rows for name in names if name.startswith("GPU")):
        raise TopologyError(f"{place}: no row of a GPU in the matrix")
    return names, rows, legend
