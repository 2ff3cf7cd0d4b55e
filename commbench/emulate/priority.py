# SPDX-License-Identifier: Apache-2.0
"""Real-time priority for ranks that mostly wait and then want to run at once, also on a machine that has other work.

As a program with arguments ``PROGRAM ...`` it takes that priority and becomes the other program.
"""

import os
import sys

__all__ = ["take_realtime_priority"]

_PRIORITY = 1  # the lowest that is real-time: above all that is not, below what the system itself needs


def take_realtime_priority() -> None:
    """Real-time priority, for threads to come as well; without the right to it, the usual one."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except PermissionError:
        print("no right to real-time priority; on a busy machine times will be too long", file=sys.stderr)


if __name__ == "__main__":
    take_realtime_priority()
    os.execvp(sys.argv[1], sys.argv[1:])
