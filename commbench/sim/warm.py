# SPDX-License-Identifier: Apache-2.0
"""``python -m commbench.sim.warm``: have the engine compiled, so that the first simulation need not wait for it."""

from commbench.sim.collective import simulate
from commbench.topology.load import load_fabric

__all__ = ["main"]


def main() -> None:
    """Run a small simulation: what the compiler makes of the kernel stays on disk (see sim.kernel)."""
    simulate(load_fabric("star-8"), "all-reduce", "ring", 8192, keep_trace=False)


if __name__ == "__main__":
    main()
