# SPDX-License-Identifier: Apache-2.0
"""The numbers that the inner loop keeps between calls, as places in one int64 array, and its other codes."""

(
    NOW,  # simulated time, ps
    HEAP,  # entries in the heap
    EMPTY,  # buckets in the heap whose slots have all been moved away
    BUCKETS,  # buckets ever used
    FREE_BUCKET,  # head of the list of free ones, -1 if none; the same for slots
    SLOTS,
    FREE_SLOT,
    STAMP,  # number of the latest search for a connected part
    SHARES,  # how often shares were computed
    DUE,  # 1 if they must be at this instant
    PENDING,  # lengths of the lists
    READY,
    PASSED,
    TOUCHED,
    FINISHED,  # task instances done
    WORK,  # flows that were solved with others
    NEXT_CHANGE,
    WATCHED,  # a task at whose round WATCHED_ROUND the loop pauses
    WATCHED_ROUND,
    ERROR,
    ERROR_TASK,
    ERROR_NUMBER,  # of that task's instance in the trace
    NUM_COUNTERS,
) = range(23)

# State of a slot: what its next event is.
LATENCY, FLOWING, ENDING = range(3)

# Outcome of a call.
RUNNING, OVER, CUT, TOO_LONG, REACHED = range(5)
