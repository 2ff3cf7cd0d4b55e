# SPDX-License-Identifier: Apache-2.0
"""The three regions of a bandwidth curve; errors are never averaged across them without saying so."""

__all__ = ["KNEE", "LATENCY", "PLATEAU", "region"]

LATENCY, KNEE, PLATEAU = "latency", "knee", "plateau"

_LATENCY_MOST = 64 * 2**10  # bytes: up to here time is per-message cost
_PLATEAU_LEAST = 256 * 2**20  # bytes: from here on time is bandwidth alone


def region(size_bytes: int) -> str:
    """``latency`` up to 64 KiB, ``plateau`` from 256 MiB, ``knee`` between."""
    if size_bytes <= _LATENCY_MOST:
        return LATENCY
    return PLATEAU if size_bytes >= _PLATEAU_LEAST else KNEE
