# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's management library says of the GPUs, where nvidia-ml-py is there; else nothing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["GpuState", "read_gpus"]

_LINKS = 18  # at most, of any GPU up to Blackwell (nvml.h, NVML_NVLINK_MAX_LINKS)
_GPU_PEER = 0  # nvml.h, NVML_NVLINK_DEVICE_TYPE_GPU
_HARMLESS = 0x1 | 0x2  # clocks: idle, and as the applications set them (nvml.h, nvmlClocksEventReason...)


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU.

    Attributes:
        index, name, address: as the driver has them; the address is that of the PCI bus.
        memory_bytes: None where it does not tell, as in all that follows.
        clock, most_clock: MHz of the multiprocessors now and at most. held: bits of what holds clocks down, without
            what is harmless.
        ecc: whether it is on. uncorrected: errors since the driver was loaded that ECC could not correct.
        links, links_up: NVLinks that it has, and that are up.
        peers: addresses of the GPUs that those which are up lead to, "" for a switch.
        capability: 90 is sm_90.
    """

    index: int
    name: str
    address: str
    memory_bytes: int | None
    clock: int | None
    most_clock: int | None
    held: int | None
    ecc: bool | None
    uncorrected: int | None
    links: int
    links_up: int
    peers: tuple[str, ...] = ()
    capability: int | None = None


def read_gpus(library: Any = None) -> tuple[tuple[GpuState, ...], str]:
    """The GPUs, and why there is nothing to say of them ("" where there is).

    Args:
        library: the module ``pynvml``, or what answers as it does; None imports it.
    """
    if library is None:
        try:
            library = import_module("pynvml")
        except ImportError:
            return (), "nvidia-ml-py is not installed (pip install nvidia-ml-py): clocks, ECC and NVLinks are not known"
    try:
        library.nvmlInit()
    except Exception as error:  # of a class of its own for each reason, such as no driver
        return (), f"NVIDIA's management library does not start: {error}"
    try:
        return tuple(_gpu(library, number) for number in range(library.nvmlDeviceGetCount())), ""
    finally:
        library.nvmlShutdown()


def _gpu(library: Any, number: int) -> GpuState:
    handle = library.nvmlDeviceGetHandleByIndex(number)
    name = library.nvmlDeviceGetName(handle)
    address = library.nvmlDeviceGetPciInfo(handle).busId
    states = [_asked(lambda n=n: int(library.nvmlDeviceGetNvLinkState(handle, n))) for n in range(_LINKS)]  # type: ignore[misc]
    held = _asked(lambda: int(library.nvmlDeviceGetCurrentClocksThrottleReasons(handle)))
    return GpuState(
        index=number,
        name=_words(name),
        address=_words(address).lower()[-12:],
        memory_bytes=_asked(lambda: int(library.nvmlDeviceGetMemoryInfo(handle).total)),
        clock=_asked(lambda: int(library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM))),
        most_clock=_asked(lambda: int(library.nvmlDeviceGetMaxClockInfo(handle, library.NVML_CLOCK_SM))),
        held=None if held is None else held & ~_HARMLESS,
        ecc=_asked(lambda: bool(library.nvmlDeviceGetEccMode(handle)[0])),
        uncorrected=_asked(lambda: int(library.nvmlDeviceGetTotalEccErrors(
            handle, library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, library.NVML_VOLATILE_ECC))),
        links=sum(state is not None for state in states),
        links_up=sum(state == 1 for state in states),
        peers=tuple(_peer(library, handle, link) for link, state in enumerate(states) if state == 1),
        capability=_asked(lambda: _whole(library.nvmlDeviceGetCudaComputeCapability(handle))),
    )  # fmt: skip


def _peer(library: Any, handle: Any, link: int) -> str:
    """Where an NVLink leads to: the address of a GPU, "" for anything else, which is a switch."""
    kind = _asked(lambda: int(library.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)))
    told = _asked(lambda: _words(library.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId).lower()[-12:])
    return told or "" if kind == _GPU_PEER else ""


def _whole(capability: Any) -> int:
    major, minor = capability
    return 10 * int(major) + int(minor)


def _words(text: Any) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def _asked(question: Callable[[], Any]) -> Any:
    """The answer, None where this GPU or driver has none."""
    with suppress(Exception):  # NVMLError, one class for each reason
        return question()
    return None
