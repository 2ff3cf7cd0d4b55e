# SPDX-License-Identifier: Apache-2.0
"""What of links' bandwidth is left for data, where the fluid model carries messages: acknowledgements take the rest."""

import numpy as np

from commbench.arrays import FloatArray
from commbench.cluster import Cluster
from commbench.lowering.placing import paths_of, triples_of
from commbench.network.transport import Transport
from commbench.program.flat import TRANSFER, FlatProgram

__all__ = ["less_way_back"]


def less_way_back(program: FlatProgram, cluster: Cluster, transport: Transport) -> FloatArray:
    """Bandwidths of all links (bytes/s) without what goes back.

    Of all that crosses a link in the whole program a part is acknowledgements and notices; data has the rest of the
    link. (A flow with a small weight on the links of its way back would be held to the share of whatever is slow there.
    Acknowledgements are not: they need far less than a queue would give them.)

    Args:
        program: of transfers. cluster: where. transport: that carries them.
    """
    triples, route_of = triples_of(program)
    paths = paths_of(triples, route_of, cluster.router, cluster.placed)
    back, back_links = cluster.router.routes(
        cluster.placed[triples[:, 1]], cluster.placed[triples[:, 0]], triples[:, 2]
    )
    moves = np.flatnonzero(program.kind == TRANSFER)
    names = ("operation", "step", "rank", "peer", "channel")
    keys = [tuple(row) for row in np.stack([getattr(program, name)[moves] for name in names], axis=1).tolist()]
    known = set(keys)
    data, returned = np.zeros(len(paths.bandwidths)), np.zeros(len(paths.bandwidths))
    for task, (operation, step, src, dst, channel) in zip(moves.tolist(), keys, strict=True):
        route, size = paths.route_of[task], int(program.num_bytes[task])
        ridden = (operation, step, dst, src, channel) in known
        data[paths.links[paths.first[route] : paths.first[route + 1]]] += transport.bytes_on_wire(size)
        returned[back_links[back[route] : back[route + 1]]] += transport.bytes_back(size, ridden)
    share = np.divide(data, data + returned, out=np.ones_like(data), where=data > 0)
    return np.asarray(paths.bandwidths * share)
