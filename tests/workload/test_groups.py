# SPDX-License-Identifier: Apache-2.0
"""Parallel groups: Megatron's own example exactly, other orders, and what is refused."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.errors import InputError
from commbench.workload.groups import DEFAULT_ORDER, GROUP_KINDS, Degrees, ParallelGroups


def test_megatrons_example() -> None:
    """16 ranks, tp 2, dp 2, pp 4: the docstring example of Megatron's initialize_model_parallel."""
    groups = ParallelGroups(Degrees(tp=2, dp=2, pp=4))
    assert groups.of("tp") == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15))
    assert groups.of("pp") == ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
    assert groups.of("dp") == ((0, 2), (1, 3), (4, 6), (5, 7), (8, 10), (9, 11), (12, 14), (13, 15))
    assert groups.of("tp-pp") == ((0, 1, 4, 5, 8, 9, 12, 13), (2, 3, 6, 7, 10, 11, 14, 15))
    assert groups.of("pp-ends") == ((0, 12), (1, 13), (2, 14), (3, 15))
    assert groups.of("cp") == groups.of("ep") == tuple((rank,) for rank in range(16))
    assert groups.of("dp-cp") == groups.of("edp") == groups.of("dp")


def test_another_order() -> None:
    """tp-cp-ep-pp-dp, which Megatron offers too: pipelines of near ranks, data-parallel ranks far apart."""
    groups = ParallelGroups(Degrees(tp=2, dp=2, pp=4, order="tp-cp-ep-pp-dp"))
    assert groups.of("pp") == ((0, 2, 4, 6), (1, 3, 5, 7), (8, 10, 12, 14), (9, 11, 13, 15))
    assert groups.of("dp") == tuple((rank, rank + 8) for rank in range(8))


def test_context_and_experts() -> None:
    """8 ranks, tp 2, cp 2, dp 2: experts take their ranks from cp and dp together, nearest first."""
    groups = ParallelGroups(Degrees(tp=2, cp=2, dp=2, ep=2))
    assert groups.of("cp") == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert groups.of("dp") == ((0, 4), (1, 5), (2, 6), (3, 7))
    assert groups.of("dp-cp") == ((0, 2, 4, 6), (1, 3, 5, 7))
    assert groups.of("ep") == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert groups.of("edp") == groups.of("dp")
    wide = ParallelGroups(Degrees(tp=2, cp=2, dp=2, ep=4))
    assert wide.of("ep") == ((0, 2, 4, 6), (1, 3, 5, 7))
    assert wide.of("edp") == tuple((rank,) for rank in range(8))


def test_places() -> None:
    groups = ParallelGroups(Degrees(tp=2, cp=3, dp=2, pp=2))
    assert groups.rank_at(tp=1, cp=2, dp=1, pp=1) == 1 + 2 * 2 + 6 * 1 + 12 * 1
    assert groups.place_of(15) == {"tp": 1, "cp": 1, "dp": 0, "pp": 1}
    assert groups.of_rank("pp", 15) == (3, 15)


@st.composite
def some_degrees(draw: st.DrawFn) -> Degrees:
    sizes = st.integers(1, 4)
    cp, dp = draw(sizes), draw(sizes)
    ep = draw(st.sampled_from([d for d in range(1, cp * dp + 1) if cp * dp % d == 0]))
    order = "-".join(draw(st.permutations(DEFAULT_ORDER.split("-"))))
    return Degrees(tp=draw(sizes), cp=cp, dp=dp, ep=ep, pp=draw(sizes), order=order)


@given(degrees=some_degrees())
def test_groups_of_a_kind_part_the_world(degrees: Degrees) -> None:
    groups = ParallelGroups(degrees)
    sizes = {axis: getattr(degrees, axis) for axis in ("tp", "cp", "dp", "pp", "ep", "edp")}
    for kind in GROUP_KINDS:
        found = groups.of(kind)
        assert sorted(rank for group in found for rank in group) == list(range(degrees.num_ranks)) or kind == "pp-ends"
        assert all(list(group) == sorted(group) for group in found)
        if kind != "pp-ends":
            assert {len(group) for group in found} == {prod(sizes[axis] for axis in kind.split("-"))}
    for rank in range(degrees.num_ranks):
        assert groups.rank_at(**groups.place_of(rank)) == rank
        dense = set(groups.of_rank("tp", rank)) & set(groups.of_rank("dp-cp", rank)) & set(groups.of_rank("pp", rank))
        assert dense == {rank}
        assert set(groups.of_rank("ep", rank)) & set(groups.of_rank("edp", rank)) == {rank}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Degrees(tp=2, dp=2, pp=4).check_ranks(32),
         "tp 2 x cp 1 x dp 2 x pp 4 = 16 ranks, but there are 32; the degrees must multiply to the ranks"),
        (lambda: Degrees(tp=0), "degree tp = 0 must be at least 1"),
        (
            lambda: Degrees(dp=4, cp=2, ep=3),
            "ep 3 does not divide cp x dp = 2 x 4 = 8: experts are spread over the ranks that hold the same dense "
            "weights",
        ),
        (lambda: Degrees(order="tp-dp-pp"), "rank order 'tp-dp-pp' must name each of tp, cp, ep, dp, pp once, "
         "joined by '-' (--rank-order)"),
        (lambda: ParallelGroups(Degrees()).of("xp"), f"group kind 'xp' is unknown; known: {', '.join(GROUP_KINDS)}"),
        (lambda: ParallelGroups(Degrees(tp=2)).of_rank("tp", 2), "rank 2 is outside the world 0..1"),
        (lambda: ParallelGroups(Degrees(tp=2)).place_of(-1), "rank -1 is outside the world 0..1"),
        (lambda: ParallelGroups(Degrees(tp=2)).rank_at(tp=2), "coordinate tp = 2 is outside 0..1"),
    ],
)  # fmt: skip
def test_refused(make, message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value) == message


def test_degrees_that_multiply_are_accepted() -> None:
    Degrees(tp=8, pp=8, dp=16).check_ranks(1024)
