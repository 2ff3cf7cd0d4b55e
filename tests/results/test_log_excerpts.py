# SPDX-License-Identifier: Apache-2.0
"""Logs of nccl-tests as people quote them: without their hashes, or without the name of the collective."""

import re
from pathlib import Path

import pytest

from commbench.errors import InputError
from tests.results.log_text import Layout, log
from tests.results.test_logs import POINTS, read


def test_an_all_reduce_is_known_by_its_bandwidths(tmp_path: Path) -> None:
    assert read(tmp_path, log(Layout(), POINTS, named=False)).records[0].collective == "all-reduce"
    bare = read(tmp_path, log(Layout(), POINTS, named=False, devices=False))
    assert (bare.records[0].collective, bare.records[0].ranks) == ("all-reduce", 8)
    with pytest.raises(InputError, match="give --collective NAME"):  # two ranks: all have a factor of 1 or less
        read(tmp_path, log(Layout(), POINTS, ranks=2, named=False))


def test_a_log_whose_hashes_are_gone_is_read_the_same(tmp_path: Path) -> None:
    text = log(Layout(), POINTS)
    found = read(tmp_path, re.sub(r"(?m)^#", " ", text))
    assert [record.time_s for record in found.records] == [record.time_s for record in read(tmp_path, text).records]
    assert (found.records[0].ranks, found.records[0].collective, found.notes) == (8, "all-reduce", ())
