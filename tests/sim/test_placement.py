# SPDX-License-Identifier: Apache-2.0
"""Where ranks sit, several jobs at once, and the links that they load."""

from pathlib import Path

import pytest

from commbench.cluster import place
from commbench.errors import InputError
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective

TWO_HOSTS = load_fabric("dgx-h100-x2")  # of eight GPUs each


@pytest.mark.parametrize(
    ("placement", "ranks", "per_host", "endpoints"),
    [
        ("linear", None, 2, [0, 1, 8, 9]),
        ("linear", 3, 2, [0, 1, 8]),
        ("round-robin", 4, None, [0, 8, 1, 9]),
        ("round-robin", None, 2, [0, 8, 1, 9]),
    ],
)
def test_placements(placement: str, ranks: int | None, per_host: int | None, endpoints: list[int]) -> None:
    assert place(TWO_HOSTS, ranks, placement, 0, per_host).tolist() == endpoints


def test_a_random_placement_stays_on_the_endpoints_there_are() -> None:
    found = place(TWO_HOSTS, 4, "random", 3, 2)
    assert sorted(found.tolist()) == [0, 1, 8, 9]
    assert place(TWO_HOSTS, 16, "random", 1).tolist() != list(range(16))


@pytest.mark.parametrize(
    ("text", "per_host", "endpoints"),
    [
        ("h1/gpu3\nh0/gpu0\n", None, [11, 0]),
        ("# a remark\nh1 slots=2\n\nh0 slots=1 # one\nh1 slots=1\n", None, [8, 9, 0, 10]),
        ("h1\nh0/gpu7\n", 3, [8, 9, 10, 7]),
        ("h0", None, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_host_file_says_where_and_in_which_order(
    text: str, per_host: int | None, endpoints: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    assert place(TWO_HOSTS, None, str(path), 0, per_host).tolist() == endpoints


def test_a_host_file_of_plain_hosts(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("h3\nh0/cpu0\n")
    assert place(load_fabric("star-8"), None, str(path), 0).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h0\nh9\n", r"hosts, line 2: dgx-h100-x2 has no endpoint or host 'h9': give an endpoint such as h1/gpu7, or"),
        ("h0 slots=9", "line 1: h0 has 8 free endpoints of 8, not 9"),
        ("h0/gpu1\nh0/gpu1", "line 2: h0/gpu1 has 0 free endpoints of 1, not 1"),
        ("h0 slots=x", "line 1: 'slots=x' is not slots=N with N at least 1"),
        ("h0 slots=0", "'slots=0' is not slots=N"),
        ("h0 4", "'4' is not slots=N"),
        ("# nothing\n", "names no endpoint"),
    ],
)
def test_lines_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        place(TWO_HOSTS, None, str(path), 0)


@pytest.mark.parametrize(
    ("placement", "ranks", "per_host", "message"),
    [
        ("no/such", None, None, "--placement no/such: cannot be read: No such file"),
        ("best", None, None, "placement 'best' is unknown; known: linear, random, round-robin, or a host file's path"),
        ("linear", None, 9, "--ranks-per-host 9 on topology dgx-h100-x2: give 1 to 8"),
        ("linear", None, 0, "--ranks-per-host 0 on topology dgx-h100-x2: give 1 to 8"),
        ("linear", 5, 2, "5 ranks on topology dgx-h100-x2: with --placement linear there are 4 endpoints"),
    ],
)
def test_bad_placements(placement: str, ranks: int | None, per_host: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        place(TWO_HOSTS, ranks, placement, 0, per_host)


def test_hierarchical_knows_how_many_ranks_a_host_has() -> None:
    record = simulate_collective(TWO_HOSTS, "all-reduce", "hierarchical", 2**20, ranks_per_host=2).record
    as_told = simulate_collective(TWO_HOSTS, "all-reduce", "hierarchical", 2**20, ranks_per_host=2, group=2).record
    assert (record.ranks, record.time_s, record.placement) == (4, as_told.time_s, "linear, 2 per host")


def test_jobs_that_meet_on_a_link_take_longer_and_the_slowest_counts() -> None:
    """Hashed, two rings over four leaves mostly have an uplink in common, and sometimes none. On leaves of their own
    they never meet.
    """
    fabric = load_fabric("leaf-spine-16-4to1")
    slower = []
    for seed in range(8):
        alone, both = (
            simulate_collective(fabric, "all-reduce", "ring", 2**24, jobs=jobs, routing="ecmp", seed=seed).record
            for jobs in ("0,4,8,12", "0,4,8,12/2,6,10,14")
        )
        assert [job["ranks"] for job in both.jobs] == [[0, 4, 8, 12], [2, 6, 10, 14]]
        assert (both.ranks, both.time_s) == (4, max(job["time_s"] for job in both.jobs))
        slower.append(both.time_s / alone.time_s)
    assert min(slower) >= 1 - 1e-9
    assert max(slower) > 1.5
    dealt = simulate_collective(fabric, "all-reduce", "ring", 2**24, jobs="2").record
    assert [job["ranks"] for job in dealt.jobs] == [list(range(0, 16, 2)), list(range(1, 16, 2))]
    apart = simulate_collective(fabric, "all-reduce", "ring", 2**24, jobs="0,1,2,3/8,9").record
    whole = [simulate_collective(fabric, "all-reduce", "ring", 2**24, num_ranks=n).record.time_s for n in (4, 2)]
    assert [job["time_s"] for job in apart.jobs] == whole
    assert apart.ranks == 4


def test_one_job_of_all_is_the_collective_alone() -> None:
    one, plain = (simulate_collective(TWO_HOSTS, "all-reduce", "ring", 2**20, jobs=jobs).record for jobs in ("1", None))
    assert one.time_s == plain.time_s
    with pytest.raises(InputError, match="--jobs 2 knows single transfers alone: give --detail transfer"):
        simulate_collective(TWO_HOSTS, "all-reduce", "ring", 2**20, jobs="2", detail="folded")


@pytest.mark.parametrize("detail", ["transfer", "folded", "collective"])
@pytest.mark.parametrize("keep_trace", [True, False])
def test_the_busiest_links_have_names_and_bytes(detail: str, keep_trace: bool) -> None:
    """A ring on two hosts crosses one NIC of each, with 2 x 15/16 of the buffer."""
    options = {"detail": detail, "links": True, "keep_trace": keep_trace}
    done = simulate_collective(TWO_HOSTS, "all-reduce", "ring", 2**24, **options).record
    assert len(done.links) == 10
    assert {each["link"] for each in done.links[:4]} == {
        "h0/nic0 -> leaf0", "leaf0 -> h0/nic0", "h1/nic0 -> leaf0", "leaf0 -> h1/nic0"
    }  # fmt: skip
    first = done.links[0]
    assert first["bytes"] == pytest.approx(2 * 15 * 2**20, rel=1e-4)
    assert first["utilisation"] == pytest.approx(first["bytes"] / 50e9 / done.time_s)
    assert first["bound_share"] == pytest.approx(first["bytes"] / 50e9 / done.lower_bound_s)


def test_links_are_counted_only_if_asked_for_and_where_routes_stay() -> None:
    from commbench.lowering.scenario import Scenario

    assert simulate_collective(TWO_HOSTS, "all-reduce", "ring", 2**20).record.links == ()
    jittered = simulate_collective(
        TWO_HOSTS, "all-reduce", "ring", 2**20, links=True, scenario=Scenario(jitter=0.2, seed=1), keep_trace=False
    ).record
    assert jittered.links[0]["bytes"] == pytest.approx(2 * 15 * 2**16, rel=0.2)
