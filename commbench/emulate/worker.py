# SPDX-License-Identifier: Apache-2.0
"""One process of a pool, a program with argument ``FD``; orders come by stdin, answers go to ``FD``.

An order is a line of JSON: a plan, this process's rank in it, and where the ranks meet. The answer is "ok", or what
went wrong.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from commbench.emulate.priority import take_realtime_priority
from commbench.errors import CommbenchError
from commbench.live.child import die_with_parent
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.progress import Progress
from commbench.live.rank_info import RankInfo

__all__ = ["main"]


def main(says: int) -> int:
    """Serve until there are no more orders."""
    die_with_parent()
    from commbench.live import worker

    take_realtime_priority()
    os.write(says, b"ok\n")
    for line in sys.stdin:
        order = json.loads(line)
        try:
            worker.run_rank(*_place(order), progress=Progress(), observer=Observer(), timeout_s=order["timeout_s"])
        except CommbenchError as error:
            os.write(says, str(error).encode()[:4000])
            return error.exit_code
        os.write(says, b"ok\n")
    return 0


def _place(order: dict[str, Any]) -> tuple[Plan, RankInfo]:
    """What to run, and as whom; sets the variables of this run."""
    os.environ.pop("COMMBENCH_GATE", None)
    os.environ.update(order["variables"])
    plan = replace(Plan.from_json(order["plan"]), out=Path(order["out"]))
    rank = order["rank"]
    return plan, RankInfo("commbench", rank, plan.ranks, local_rank=rank, store=Path(order["store"]))


if __name__ == "__main__":
    # os._exit: as in live.child, the destructors of process groups are not waited for
    os._exit(main(int(sys.argv[1])))
