# SPDX-License-Identifier: Apache-2.0
"""The processes of a pool, a program without arguments; orders come by the first file of each, answers go to the other.

An order is a line of JSON: a plan, this process's rank in it, and where the ranks meet. The answer is "ok", or what
went wrong.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from commbench.errors import CommbenchError
from commbench.live.fork_server import Rank, serve
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.progress import Progress
from commbench.live.rank_host import RankHost
from commbench.live.rank_info import RankInfo

__all__ = ["load"]


def load() -> Rank:
    """What a process of a pool does, once torch is there: serve until there are no more orders."""
    from commbench.live import collective, worker  # noqa: F401  what orders need

    return _serve_orders


def _serve_orders(number: int, host: RankHost) -> int:
    from commbench.live.worker import run_rank

    orders, says = host.files
    os.write(says, b"ok\n")
    for line in os.fdopen(orders):
        order = json.loads(line)
        try:
            run_rank(*_place(order), progress=Progress(), observer=Observer(), timeout_s=order["timeout_s"])
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
    os._exit(serve(load))
