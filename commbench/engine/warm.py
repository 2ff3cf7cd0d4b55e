# SPDX-License-Identifier: Apache-2.0
"""``python -m commbench.engine.warm``: have engine and modules compiled, so that the first command need not wait."""

import compileall
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import commbench
from commbench.engine import compiled
from commbench.engine.setting import Paths, Setting
from commbench.network.models import FLUID, get_network
from commbench.network.packet.settings import PREFIX
from commbench.program.flat import TRANSFER, FlatProgram

__all__ = ["main", "run_one_transfer"]


def main() -> None:
    """Have the kernel of every network model compiled, at once: what comes of it stays on disk (see engine.kernel).

    Python keeps the bytes of its modules only where it may write them (PYTHONDONTWRITEBYTECODE); it reads them always.
    """
    compileall.compile_dir(Path(str(commbench.__file__)).parent, quiet=2)
    with get_context("spawn").Pool(2) as pool:
        pool.map(run_one_transfer, (FLUID.name, PREFIX))


def run_one_transfer(network: str) -> None:
    """By a network model of that name."""
    zero = np.zeros(1, dtype=np.int64)
    transfer = FlatProgram(
        num_ranks=2,
        kind=zero + TRANSFER,
        rank=zero,
        peer=zero + 1,
        num_bytes=zero + 1,
        duration_ps=zero,
        channel=zero,
        step=zero,
        operation=zero,
        first=np.zeros(2, dtype=np.int64),
        needs=np.empty(0, dtype=np.int64),
    )
    compiled.run(transfer, Setting(Paths.of_lists([1.0], [(0,)], [0], [0])), network=get_network(network))


if __name__ == "__main__":
    main()
