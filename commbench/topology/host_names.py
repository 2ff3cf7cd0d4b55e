# SPDX-License-Identifier: Apache-2.0
"""Names that a cluster gives to the hosts of a topology."""

from pathlib import Path

from commbench.errors import InputError
from commbench.topology.fabric import Fabric

__all__ = ["read_host_names"]


def read_host_names(path: Path, fabric: Fabric) -> list[str]:
    """Names of the topology's hosts, one a line, in its order; what follows a # is a remark.

    Raises:
        InputError: the file cannot be read, names a host twice, or has another number of names than there are hosts.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--hosts {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    names = [words[0] for line in lines if (words := line.partition("#")[0].split())]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"--hosts {path}: {twice!r} stands there twice; give each host once")
    if len(names) != fabric.num_hosts:
        raise InputError(f"--hosts {path}: {len(names)} names, but {fabric.name} has {fabric.num_hosts} hosts")
    return names
