# SPDX-License-Identifier: Apache-2.0
"""``python -m commbench.engine.warm``: have the engine compiled, so that the first simulation need not wait for it."""

from commbench.engine import compiled
from commbench.engine.setting import Paths, Setting
from commbench.program.expand import expand
from commbench.program.ir import Program, Transfer

__all__ = ["main"]


def main() -> None:
    """Run one transfer: what the compiler makes of the kernel stays on disk (see engine.kernel)."""
    program = Program(num_ranks=2, operations=(Transfer(src=0, dst=1, num_bytes=1),))
    compiled.run(expand(program, reduction_ps_per_byte=0.0), Setting(Paths.of_lists([1.0], [(0,)], [0], [0])))


if __name__ == "__main__":
    main()
