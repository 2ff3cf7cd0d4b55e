# SPDX-License-Identifier: Apache-2.0
"""``diagnose`` on a fabric: the guilty part is named, the innocent are not, and what cannot be known is said."""

import json
import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commbench.results.diagnoses import Diagnosed
from commbench.results.journal import Journal, read_records
from commbench.results.records import Measured
from tests.cli.commands import commbench
from tests.diagnose.trials import lab, record, summary, trial, trials

CI_TRIALS = 40
FULL = "takes minutes; set COMMBENCH_FULL=1"
WHOLE = not os.environ.get("COMMBENCH_FULL")


def pairs(slow: dict[tuple[int, int], float] | None = None, hosts: Sequence[int] = range(8)) -> list[Measured]:
    """All pairs of hosts of star-8 with 64 MiB both ways: 5.4 ms at 100 Gbit/s, and longer where it is said."""
    noise = (1.0, 1.01, 0.99, 1.005, 0.995)
    found = []
    for a, b in combinations(hosts, 2):
        time_s = 5.4e-3 * (slow or {}).get((a, b), 1.0) * noise[(a + 3 * b) % 5]
        found.append(record([(f"h{a}", 0), (f"h{b}", 0)], [time_s * each for each in noise]))
    return found


def diagnosed(folder: Path, records: Sequence[Measured], *options: str, code: int, topology: str = "star-8") -> Any:
    """The record that the command prints."""
    file = folder / "pairs.jsonl"
    file.unlink(missing_ok=True)
    Journal(file).extend(records)
    done = commbench("diagnose", "pairs.jsonl", "-t", topology, "--json", *options, folder=folder)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def of_host(host: int, factor: float) -> dict[tuple[int, int], float]:
    return {pair: factor for pair in combinations(range(8), 2) if host in pair}


def test_healthy_pairs_blame_nobody(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, pairs(), code=0)
    assert (found["verdict"], found["slow"], found["suspects"]) == ("healthy", 0, [])


def test_a_slow_host_is_named_with_how_slow_it_is(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, pairs(of_host(3, 2.0)), code=1)
    assert (found["verdict"], found["slow"], found["unexplained"]) == ("localised", 7, 0)
    [suspect] = found["suspects"]
    assert suspect["parts"] == ["link h3/nic0 - leaf0", "h3/nic0", "h3/cpu0", "h3"]  # the same traffic on all of them
    assert suspect["partners"] == 7
    assert suspect["factor"] == pytest.approx(0.5, rel=0.02)
    assert suspect["low"] < suspect["factor"] < suspect["high"]


def test_a_baseline_is_that_of_the_healthy_whatever_the_simulator_says(tmp_path: Path) -> None:
    """All take three times as long as simulated, and host 3 six times: host 3 is slow, the others are not."""
    slow = dict.fromkeys(combinations(range(8), 2), 3.0) | of_host(3, 6.0)
    found = diagnosed(tmp_path, pairs(slow), code=1)
    assert [one["parts"][-1] for one in found["suspects"]] == ["h3"]
    assert {round(one["baseline"], 1) for one in found["held"]} == {3.0}


def test_half_of_the_measurements_may_be_slow(tmp_path: Path) -> None:
    """Of four hosts' six pairs three have host 2 in them."""
    found = diagnosed(tmp_path, pairs(of_host(2, 1.6), range(4)), code=1)
    assert "h2" in found["suspects"][0]["parts"]
    assert found["slow"] == 3


def test_two_slow_hosts_are_both_named(tmp_path: Path) -> None:
    slow = of_host(1, 1.5) | of_host(6, 3.0)
    found = diagnosed(tmp_path, pairs(slow), code=1)
    assert [("h6" in one["parts"], "h1" in one["parts"]) for one in found["suspects"]].count((False, False)) == 0
    assert len(found["suspects"]) == 2
    assert all(one["blamed"] for one in found["suspects"])


def test_three_slow_hosts_are_found_one_after_the_other(tmp_path: Path) -> None:
    slow = of_host(1, 1.5) | of_host(6, 3.0) | of_host(4, 2.2) | {(4, 6): 3.0, (1, 6): 3.0, (1, 4): 2.2}
    found = diagnosed(tmp_path, pairs(slow), code=1)
    named = {part for one in found["suspects"] if one["blamed"] for part in one["parts"]}
    assert {"h1", "h4", "h6"} <= named
    assert not named & {"h0", "h2", "h3", "h5", "h7"}


def test_a_host_that_is_slow_with_one_partner_is_not_blamed(tmp_path: Path) -> None:
    """Only hosts 0 and 1 were measured together, slow: either may be at fault; a third partner would tell."""
    records = [*pairs({(0, 1): 2.0}, (0, 1)), *pairs(None, range(2, 8))]
    found = diagnosed(tmp_path, records, code=1)
    assert found["verdict"] == "not-localised"
    named = {part for one in (*found["suspects"], *found["others"]) for part in one["parts"]}
    assert {"h0", "h1"} <= named
    assert not any(one["blamed"] for one in (*found["suspects"], *found["others"]))
    proposed = found["proposed"][0]
    assert len({0, 1} & set(proposed["ranks"])) == 1  # one of the two, with somebody else
    assert max(proposed["expected"].values()) == pytest.approx(2.0, rel=0.15)
    assert min(proposed["expected"].values()) == pytest.approx(1.0, rel=0.01)


def test_one_measurement_that_went_astray_blames_nobody(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, pairs({(2, 5): 2.0}), code=1)
    assert found["verdict"] == "not-localised"
    assert not any(one["blamed"] for one in (*found["suspects"], *found["others"]))
    assert found["unexplained"] <= 1


def test_links_between_switches_are_told_apart_by_their_routes() -> None:
    """A spine link of the fat tree at half its rate: it and no host is named, though hosts' pairs are slow."""
    place = lab("fat-tree-16")
    part = next(part for part in place.cables if part.name == "link leaf1 - spine2")
    times = place.true_times([(part, 0.5)])
    said = place.diagnosed(times, np.random.default_rng(1))
    assert said.suspects[0].parts[0] == "link leaf1 - spine2"
    assert said.suspects[0].factor == pytest.approx(0.5, rel=0.1)
    assert [one.blamed for one in said.suspects] == [True]


def test_a_record_that_does_not_say_where_its_ranks_sat_is_refused(tmp_path: Path) -> None:
    for environment, words in (
        ({"members": None}, "its environment tells neither members nor hosts"),
        ({"members": [("h0", 0), ("h9", 0)]}, "host 'h9' is none of star-8; give --hosts FILE with the names"),
        ({"members": [("h0", 0), ("h1", 4)]}, "endpoint 4 of h1, which has 1 on star-8"),
        ({"members": [("h0", 0), ("h0", 0)]}, "each on an endpoint of its own"),
    ):
        bad = record([("h0", 0), ("h1", 0)], 1e-3)
        told = {k: v for k, v in (dict(bad.environment) | environment).items() if v is not None}
        (tmp_path / "bad.jsonl").write_text(
            json.dumps(json.loads(bad.to_json()) | {"environment": told}) + "\n", encoding="utf-8"
        )
        done = commbench("diagnose", "bad.jsonl", "-t", "star-8", folder=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr


def test_names_of_hosts_come_from_a_file(tmp_path: Path) -> None:
    names = [f"node{17 + n}" for n in range(8)]
    (tmp_path / "hosts").write_text("# the rack\n" + "\n".join(names) + "\n", encoding="utf-8")
    renamed = []
    for one in pairs(of_host(3, 2.0)):
        members = [(names[int(host[1:])], number) for host, number in one.environment["members"]]
        renamed.append(record(members, one.samples_s[0]))
    found = diagnosed(tmp_path, renamed, "--hosts", "hosts", code=1)
    assert "h3" in found["suspects"][0]["parts"]
    (tmp_path / "hosts").write_text("node17\nnode18\n", encoding="utf-8")
    done = commbench("diagnose", "pairs.jsonl", "-t", "star-8", "--hosts", "hosts", folder=tmp_path)
    assert "--hosts hosts: 2 names, but star-8 has 8 hosts" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("pairs.jsonl", "give --topology NAME"),
        ("pairs.jsonl -t star-8 --library gloo", "--library 'gloo' is unknown"),
        ("few.jsonl -t star-8", "none of them with 2 others of its kind"),
        ("one.jsonl -t star-8", "none of 1 measured records has two ranks or more"),
        ("wrong.jsonl -t star-8", "3 wrong values"),
        ("missing.jsonl -t star-8", "missing.jsonl: cannot be read"),
    ],
)
def test_what_cannot_be_diagnosed_is_told(tmp_path: Path, options: str, words: str) -> None:
    Journal(tmp_path / "pairs.jsonl").extend(pairs())
    Journal(tmp_path / "few.jsonl").extend(pairs(None, range(2)))
    Journal(tmp_path / "one.jsonl").append(record([("h0", 0)], 1e-3))
    wrong = json.loads(pairs()[0].to_json()) | {"wrong": 3}
    (tmp_path / "wrong.jsonl").write_text(json.dumps(wrong) + "\n", encoding="utf-8")
    done = commbench("diagnose", *options.split(), folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr


def test_the_table_and_the_page(tmp_path: Path) -> None:
    Journal(tmp_path / "pairs.jsonl").extend(pairs(of_host(3, 2.0)))
    done = commbench("diagnose", "pairs.jsonl", "-t", "star-8", "--out", "d.jsonl", folder=tmp_path)
    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = " ".join(done.stdout.split())
    assert "verdict: localised" in text
    [kept] = read_records(tmp_path / "d.jsonl")
    assert isinstance(kept, Diagnosed)
    page = commbench("report", "pairs.jsonl", "d.jsonl", "--out", "d.html", folder=tmp_path)
    assert page.returncode == 0, page.stderr
    html = (tmp_path / "d.html").read_text(encoding="utf-8")
    assert "Who is to blame" in html
    assert "Pairs of hosts" in html


def test_most_pairs_may_be_slow() -> None:
    """Two of four hosts are, so that 8 of 48 pairs alone are healthy; the others are 1.6 and 2.2 times as long."""
    one = trial(82, 2)
    assert [part.kind for part, _ in one.faults] == ["host", "host"]
    assert one.found == 2
    assert one.innocent == ()


@pytest.mark.parametrize(
    "count", [CI_TRIALS, pytest.param(2000, marks=(pytest.mark.full, pytest.mark.skipif(WHOLE, reason=FULL)))]
)
def test_trials_of_slow_links_and_hosts(count: int) -> None:
    """Of single faults that slow a measurement by 5 % or more the guilty part is named first in 95 % or more; somebody
    innocent is blamed in at most 2 % of all trials, and those without a fault are called healthy.
    """
    done = list(trials(count))
    single = [one for one in done if len(one.faults) == 1 and one.visible]
    assert len(single) > 0.4 * count
    assert sum(one.first for one in single) >= 0.95 * len(single), summary(done)
    assert sum(bool(one.innocent) for one in done) <= 0.02 * len(done), summary(done)
    assert all(one.said.verdict == "healthy" for one in done if not one.faults), summary(done)
