# SPDX-License-Identifier: Apache-2.0
"""All network models by name. Another one is another entry: what it must do stands in network.base."""

from commbench.errors import InputError
from commbench.network.base import NetworkKernel, NetworkModel
from commbench.network.fluid import FluidNetwork

__all__ = ["FLUID", "NETWORKS", "get_network"]


def _fluid_kernel() -> NetworkKernel:
    from commbench.network.fluid_kernel import KERNEL  # loads numba

    return KERNEL


FLUID = NetworkModel("fluid", lambda wiring: FluidNetwork(wiring.bandwidths.tolist()), _fluid_kernel, weighted=True)

NETWORKS: dict[str, NetworkModel] = {FLUID.name: FLUID}


def get_network(name: str) -> NetworkModel:
    """The model of a name.

    Raises:
        InputError: nothing has this name.
    """
    if name not in NETWORKS:
        raise InputError(f"--network {name!r} is unknown; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]
