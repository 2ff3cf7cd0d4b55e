# SPDX-License-Identifier: Apache-2.0
"""Predictions of points measured in labs, remembered over the tests of a module: they follow from the record alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from commbench.network.transport import Transport
from commbench.results.records import Measured
from commbench.validate import lab_judge
from commbench.validate.lab_packets import PacketPrediction
from commbench.validate.lab_predict import LabPrediction, predict

_KNOWN: dict[tuple[object, ...], LabPrediction] = {}


def remembered(record: Measured, transport: Transport) -> LabPrediction:
    """What ``predict`` gives; it depends on all of a record but on what was measured."""
    what = (record.collective, record.algorithm, record.ranks, record.size_bytes, record.num_elements)
    where = json.dumps(dict(record.environment["emulated"]), sort_keys=True), record.environment["cores_usable"]
    key = (*what, *where, transport)
    if key not in _KNOWN:
        _KNOWN[key] = predict(record, transport)
    return _KNOWN[key]


@contextmanager
def remembering() -> Iterator[None]:
    """While it lasts, a point is simulated once for each transport, however often judged; packets say the same."""

    def packets(record: Measured, transport: Transport) -> PacketPrediction:
        return PacketPrediction(remembered(record, transport).time_s, 0, 0)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("predict", "fluid_once"):
            patch.setattr(lab_judge, name, remembered)
        for name in ("predict_packets", "packets_once"):
            patch.setattr(lab_judge, name, packets)
        yield
