# SPDX-License-Identifier: Apache-2.0
"""Which device a rank takes, and on which backend ranks meet: decided from what all of them have, with made-up GPUs."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from commbench.errors import InputError
from commbench.live.backend import AUTO, BACKENDS
from commbench.live.hosts import HostCores
from commbench.live.seats import Offer, choose_backend, local_ranks_of, offer_of

torch = pytest.importorskip("torch")

NAMES = ["nccl", "gloo"]
HERE = HostCores("host", frozenset({0}), machine="boot 1")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes torch see these GPUs, a letter for the UUID of each."""

    def see(uuids: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(uuids))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=uuids[i]))

    return see


def offers(gpus: Callable[[str], None], visible: list[str], local_ranks: list[int], machine: str = "m") -> list[Offer]:
    """Of ranks with these GPUs to be seen by each."""
    found = []
    for uuids, local_rank in zip(visible, local_ranks, strict=True):
        gpus(uuids)
        found.append(offer_of(replace(HERE, machine=machine), local_rank, NAMES))
    return found


def test_the_only_device_that_a_task_sees_is_its_own(gpus: Callable[[str], None]) -> None:
    """srun --gpus-per-task=1: local rank 3 sees one GPU, and that is number 0 to it."""
    gpus("d")
    nccl = BACKENDS["nccl"]
    assert (nccl.lacks(3), nccl.device_id(3)) == ("", "GPU-d")
    taken: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "set_device", taken.append)
        assert nccl.take_device(3) == torch.device("cuda", 0)
    assert taken == [torch.device("cuda", 0)]


def test_of_several_devices_a_rank_takes_that_of_its_number(gpus: Callable[[str], None]) -> None:
    gpus("abcd")
    assert BACKENDS["nccl"].device_id(2) == "GPU-c"
    assert "local rank 4 has none, torch sees 4" in BACKENDS["nccl"].lacks(4)


@pytest.mark.parametrize(
    ("visible", "local_ranks"),
    [(["abcd"] * 4, [0, 1, 2, 3]), (list("abcd"), [0, 1, 2, 3]), (list("abcd"), [0, 0, 0, 0])],
)
def test_ranks_with_a_device_each_take_nccl(
    visible: list[str], local_ranks: list[int], gpus: Callable[[str], None]
) -> None:
    assert choose_backend(AUTO, NAMES, offers(gpus, visible, local_ranks)) == ("nccl", [])


@pytest.mark.parametrize(
    ("visible", "local_ranks", "why"),
    [
        (["abcd"] * 2, [1, 1], "ranks 0, 1 of one machine have the same device, GPU-b"),
        (["a", "a", "b"], [0, 1, 2], "ranks 0, 1 of one machine have the same device, GPU-a"),
        (["ab"] * 3, [0, 1, 2], "rank 2: needs a CUDA device per rank; local rank 2 has none, torch sees 2"),
        (["a", ""], [0, 1], "rank 1: needs a CUDA device; torch sees none"),
    ],
)
def test_where_gpus_are_and_cannot_be_used_that_is_said_aloud(
    visible: list[str], local_ranks: list[int], why: str, gpus: Callable[[str], None]
) -> None:
    told = offers(gpus, visible, local_ranks)
    name, (note,) = choose_backend(AUTO, NAMES, told)
    assert name == "gloo"
    assert note.startswith(f"warning: GPUs are here, but nccl is not used: {why}")
    with pytest.raises(InputError) as caught:
        choose_backend("nccl", ["nccl"], told)
    assert str(caught.value).startswith(f"backend nccl: {why}")


def test_two_machines_may_have_devices_of_one_name(gpus: Callable[[str], None]) -> None:
    pair = [*offers(gpus, ["a"], [0], machine="m"), *offers(gpus, ["a"], [0], machine="n")]
    assert choose_backend("nccl", ["nccl"], pair) == ("nccl", [])


def test_ranks_that_say_they_are_on_two_hosts_may_share_a_device(
    gpus: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL_HOSTID makes NCCL go over sockets between them; a way to try it with one GPU."""
    pair = []
    for rank in range(2):
        monkeypatch.setenv("NCCL_HOSTID", f"rank{rank}")
        pair += offers(gpus, ["a"], [rank])
    assert choose_backend("nccl", ["nccl"], pair) == ("nccl", [])


def test_nobody_is_told_of_gpus_where_there_are_none(gpus: Callable[[str], None]) -> None:
    assert choose_backend(AUTO, NAMES, offers(gpus, ["", ""], [0, 1])) == ("gloo", [])


def test_ranks_count_those_of_their_machine_where_nobody_tells() -> None:
    machines = ["m", "n", "m", "n", "m"]
    places = [replace(HERE, machine=machine) for machine in machines]
    assert local_ranks_of([None] * 5, places) == [0, 0, 1, 1, 2]
    assert local_ranks_of([None, None, None, 7, None], places)[3] == 7
