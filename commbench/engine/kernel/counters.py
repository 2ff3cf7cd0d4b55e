# SPDX-License-Identifier: Apache-2.0
"""The numbers that the inner loop keeps between calls, as places in one int64 array, and its other codes."""

from commbench.engine.setting import What

(
    NOW,  # simulated time, ps
    NETWORK,  # when something happens next in the network, ps, or NEVER
    SLOTS,  # ever used
    FREE_SLOT,  # head of the list of free ones, -1 if none
    SHARES,  # how often the network was asked anew
    DUE,  # 1 if it must be at this instant
    PENDING,  # lengths of the lists
    READY,
    PASSED,
    FINISHED,  # task instances done
    NEXT_CHANGE,
    WATCHED,  # a task at whose round WATCHED_ROUND the loop pauses
    WATCHED_ROUND,
    ERROR,
    ERROR_TASK,
    ERROR_NUMBER,  # of that task's instance in the trace
    NUM_COUNTERS,
) = range(17)

WORK = 0  # place in the network's counters: what it did, for pauses

# State of a slot: what its next event is.
LATENCY, FLOWING, ENDING = range(3)

# Outcome of a call.
RUNNING, OVER, CUT, TOO_LONG, REACHED = range(5)

# What changes, as the compiler takes it.
BANDWIDTH, ROUTE = int(What.BANDWIDTH), int(What.ROUTE)
