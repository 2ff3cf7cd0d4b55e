# SPDX-License-Identifier: Apache-2.0
"""commbench: measure, simulate and validate collective communication.

The package door is narrow on purpose: import what you need from its room, for example
``from commbench.collectives.registry import build_schedule`` or ``from commbench.sim.collective import simulate``.
Importing ``commbench`` loads neither torch nor matplotlib nor numba.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
