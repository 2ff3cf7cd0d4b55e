# SPDX-License-Identifier: Apache-2.0
"""NCCL: which algorithm, protocol and channels it takes (``tuning``), and how long that lasts (``timing``).

``predict(machine, kind, size_bytes)`` answers both. Choice and timing are separate: NCCL's formula ranks, and the
constants of the timing belong to a GPU generation, a kind of link or a kind of network, never to one curve.
"""

from commbench.libraries.nccl.library import NcclLibrary, machine_of
from commbench.libraries.nccl.machine import NcclMachine as Machine
from commbench.libraries.nccl.prediction import Candidate, Prediction
from commbench.libraries.nccl.predictor import Adapted, MachinePoint, adapt, predict, predict_sizes

__all__ = [
    "Adapted",
    "Candidate",
    "Machine",
    "MachinePoint",
    "NcclLibrary",
    "Prediction",
    "adapt",
    "machine_of",
    "predict",
    "predict_sizes",
]
