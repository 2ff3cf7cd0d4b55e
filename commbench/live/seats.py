# SPDX-License-Identifier: Apache-2.0
"""Where ranks sit: which of a machine they are, which device each has, and on which backend all of them can meet.

Rank 0 decides this from what all ranks have told, so that all do alike, and are refused alike.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from commbench.errors import InputError
from commbench.live.backend import AUTO, BACKENDS
from commbench.live.hosts import HostCores

__all__ = ["Offer", "choose_backend", "local_ranks_of", "offer_of", "ranks_text"]

_SHOWN = 4  # ranks that are named one by one


@dataclass(frozen=True, slots=True)
class Offer:
    """What a rank has for each backend that may be taken.

    Attributes:
        machine: that it runs on; see :class:`~commbench.live.hosts.HostCores`.
        devices: as many as it sees, by backend.
        lacks: why it cannot use a backend, "" if it can.
        ids: of the device that it would take; "" where ranks may share one.
    """

    machine: str
    devices: dict[str, int] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)


def local_ranks_of(told: Sequence[int | None], places: Sequence[HostCores]) -> list[int]:
    """Every rank's number among those of its machine: as it was told, or else as ranks on the same machine count."""
    before: Counter[str] = Counter()
    numbers = []
    for number, place in zip(told, places, strict=True):
        numbers.append(before[place.machine] if number is None else number)
        before[place.machine] += 1
    return numbers


def offer_of(place: HostCores, local_rank: int, names: Sequence[str]) -> Offer:
    """What this process has for these backends."""
    lacks = {name: BACKENDS[name].lacks(local_rank) for name in names}
    return Offer(
        place.machine,
        {name: BACKENDS[name].num_devices() for name in names},
        lacks,
        {name: "" if why else BACKENDS[name].device_id(local_rank) for name, why in lacks.items()},
    )


def choose_backend(asked: str, names: Sequence[str], offers: Sequence[Offer]) -> tuple[str, list[str]]:
    """The best backend that every rank can use, and what is to be said of the choice.

    Args:
        asked: "auto", or the one that must be taken.
        names: of the backends that may be taken, best first.
        offers: of all ranks, in rank order.

    Raises:
        InputError: the one that was asked for cannot be used; or there is none.
    """
    notes: list[str] = []
    for name in names:
        why = _obstacle(name, offers)
        if not why:
            return name, notes
        if asked != AUTO:
            raise InputError(f"backend {name}: {why}")
        if any(offer.devices[name] for offer in offers):
            notes.append(f"warning: GPUs are here, but {name} is not used: {why}")
    raise InputError(f"no backend for these ranks: {'; '.join(notes)}")


def _obstacle(name: str, offers: Sequence[Offer]) -> str:
    """Why ranks cannot use a backend; "" if they can."""
    lacking = [rank for rank, offer in enumerate(offers) if offer.lacks[name]]
    if lacking:
        return f"{ranks_text(lacking)}: {offers[lacking[0]].lacks[name]}"
    places = Counter((offer.machine, offer.ids[name]) for offer in offers if offer.ids[name])
    shared: dict[tuple[str, str], list[int]] = defaultdict(list)
    for rank, offer in enumerate(offers):
        if places[offer.machine, offer.ids[name]] > 1:
            shared[offer.machine, offer.ids[name]].append(rank)
    if not shared:
        return ""
    (_, device), ranks = next(iter(shared.items()))
    return (
        f"{ranks_text(ranks)} of one machine have the same device, {device}; give each rank one of its own "
        "(LOCAL_RANK, CUDA_VISIBLE_DEVICES, --gpus-per-task), start fewer ranks, or use --backend gloo"
    )


def ranks_text(ranks: Sequence[int]) -> str:
    """Their numbers, the first ones of many: "ranks 0, 1, 2, 3 and 4 more"."""
    some = ", ".join(map(str, ranks[:_SHOWN])) + (f" and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else "")
    return f"rank{'s' * (len(ranks) > 1)} {some}"
