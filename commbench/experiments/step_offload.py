# SPDX-License-Identifier: Apache-2.0
"""What the options of ``sim train`` leave in host memory, and how it gets there."""

from collections import Counter
from typing import TYPE_CHECKING

from commbench.errors import InputError
from commbench.experiments.step_given import StepOptions

if TYPE_CHECKING:
    from commbench.topology.fabric import Fabric
    from commbench.workload.offload import Offload

__all__ = ["offload_of", "offload_words"]


def offload_of(options: StepOptions, fabric: "Fabric", ranks: int) -> "Offload | None":
    """What lies in host memory, of so many ranks.

    Raises:
        InputError: an unknown word, a number out of its bounds, or a topology without PCIe to the host.
    """
    from commbench.errors import unknown
    from commbench.units import parse_bandwidth
    from commbench.workload.offload import CPU_ADAM, OFFLOAD, Offload, host_link

    if options.offload is None:
        for name in ("offload_bandwidth", "host_adam"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name.replace('_', '-')}: goes with --offload {', '.join(OFFLOAD[:2])} or both")
        return None
    if options.offload not in OFFLOAD:
        raise InputError(f"--offload {options.offload!r} {unknown(options.offload, OFFLOAD)}")
    optimizer, activations = (options.offload in (kind, "both") for kind in OFFLOAD[:2])
    if options.host_adam is not None and not (optimizer and 1 <= options.host_adam < 1e15):
        raise InputError(
            f"--host-adam {options.host_adam:g}: must be parameters/s of at least 1, such as 3.9e9, and goes with "
            "--offload optimizer or both"
        )
    try:
        given = None if options.offload_bandwidth is None else parse_bandwidth(options.offload_bandwidth)
    except InputError as error:
        raise InputError(f"--offload-bandwidth: {error}") from None
    host_ranks = int(max(Counter(fabric.host_of[:ranks].tolist()).values()))
    return Offload(
        optimizer=optimizer, activations=activations,
        link_bytes_per_s=host_link(fabric, ranks) if given is None else given,
        adam_per_s=(options.host_adam or CPU_ADAM) / host_ranks, host_ranks=host_ranks,
    )  # fmt: skip


def offload_words(options: StepOptions, offload: "Offload | None") -> tuple[str, ...]:
    """What is to be said of what lies in host memory."""
    from commbench.units import format_bandwidth
    from commbench.workload.offload import CPU_ADAM_WORDS

    if offload is None:
        return ()
    of = "the topology's PCIe line rate, over ranks that share it" if options.offload_bandwidth is None else "given"
    words = [f"offload over {format_bandwidth(offload.link_bytes_per_s)} a GPU each way ({of}), as if no NIC used it"]
    if offload.optimizer:
        how = "given" if options.host_adam is not None else CPU_ADAM_WORDS
        rate = offload.adam_per_s * offload.host_ranks
        words.append(
            f"gradients to the host, its CPUs' update of {rate / 1e9:.3g} G parameters/s a host ({how}), parameters "
            "back: one after the other behind the last gradients; ZeRO-Offload overlaps them in part"
        )
    if offload.activations:
        words.append("activations of all but a stage's last layer move beside the layer behind or before theirs")
    return tuple(words)
