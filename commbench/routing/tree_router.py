# SPDX-License-Identifier: Apache-2.0
"""Routes of a tree of plain hosts by arithmetic: many flows at once, no graph, no search.

A route goes up, stage by stage, until source and destination lie below one switch, and comes down the only way there
is. It leaves and enters its hosts by the NIC of its channel. Its one freedom is the choice of a neighbour above at each
switch on the way up, which the policy takes as :class:`~commbench.routing.router.Router` has it taken: link for link
the two give the same routes.
"""

import numpy as np
from numpy.typing import ArrayLike

from commbench.routing.policies import Flow, get_policy
from commbench.routing.routes import Flows, Links, Rows, as_flows, once_each, row_starts
from commbench.topology.model import SWITCH_KINDS, NodeKind
from commbench.topology.tree import Stage, Tree

__all__ = ["TreeRouter"]


class TreeRouter:
    """Routes of one tree under one policy; nothing is remembered, because nothing is searched.

    Raises:
        RoutingError: the policy is unknown.
    """

    def __init__(self, tree: Tree, policy: str | None = None, seed: int = 0) -> None:
        """``policy`` None takes the tree's own; ``seed`` is that of the hash of ECMP."""
        self.fabric = tree
        self.policy = get_policy(policy or tree.routing)
        self.seed = seed

    def routes(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> tuple[Rows, Links]:
        """Routes of many flows; see :meth:`commbench.routing.routes.Routes.routes`.

        Raises:
            RoutingError: a rank that the tree does not have.
        """
        flows = as_flows(self.fabric, src, dst, channel)
        if self.policy.by_destination is not None:
            return self._climb(flows)
        return once_each(flows, self._climb)

    def _climb(self, flows: Flows) -> tuple[Rows, Links]:
        """Stage by stage, up on the source's side and down on the destination's."""
        stages = self.fabric.stages
        crossed = np.array([flows.src // stage.subtree != flows.dst // stage.subtree for stage in stages])
        first = row_starts(2 * np.count_nonzero(crossed, axis=0))
        links = np.empty(first[-1], np.int32)
        place, fan_out = np.zeros(len(flows.src), np.int64), 1
        nic = flows.channel % self.fabric.nics
        for level, stage in enumerate(stages):
            rows = np.flatnonzero(crossed[level])
            here = flows.take(rows)
            choice = nic[rows] if stage.upper is NodeKind.NIC else np.zeros(len(rows), np.int64)
            if stage.lower in SWITCH_KINDS and stage.above > 1:
                choice = self._choose(stage, here, place[rows], fan_out)
                fan_out *= stage.above
            links[first[rows] + level] = stage.link_up(here.src, place[rows], choice)
            links[first[rows + 1] - 1 - level] = stage.link_up(here.dst, place[rows], choice) + 1
            # The NICs of a host join one leaf.
            place[rows] = 0 if stage.lower is NodeKind.NIC else place[rows] * stage.above + choice
        return first, links

    def _choose(self, stage: Stage, flows: Flows, place: Rows, fan_out: int) -> Rows:
        """Which of its neighbours above each flow takes, from lower node ``place`` of its source's subtree."""
        nics = self.fabric.nics
        number = flows.dst * nics + flows.channel % nics
        if self.policy.by_destination is not None:
            return self.policy.by_destination(number, fan_out, stage.above)
        switches = (flows.src // stage.subtree * stage.lower_per_subtree + place).tolist()
        return np.array(
            [
                self.policy.choose(
                    Flow(f"h{src}/nic{channel % nics}", f"h{dst}/nic{channel % nics}", channel, to, self.seed),
                    f"{stage.lower.value}{switch}",
                    range(stage.above),
                    fan_out,
                )
                for src, dst, channel, to, switch in zip(*flows.lists(), number.tolist(), switches, strict=True)
            ],
            np.int64,
        )
