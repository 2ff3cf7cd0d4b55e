# SPDX-License-Identifier: Apache-2.0
"""One graph of channels, as NCCL's search finds it."""

from dataclasses import dataclass

__all__ = ["ChannelGraph"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGraph:
    """One of NCCL's graphs, as ``NCCL_DEBUG_SUBSYS=GRAPH`` prints it.

    Attributes:
        channels: before every one is doubled. intra, inter: GB/s of a channel in and between nodes.
        nvlink: whether all hops inside a node are NVLinks. pattern: 4 ring, 1 balanced tree, 3 tree, 5 NVLS.
        latency_us: of the network, beside NCCL's own figures.
    """

    channels: int
    intra: float
    inter: float
    nvlink: bool = True
    pattern: int = 4
    latency_us: float = 0.0
