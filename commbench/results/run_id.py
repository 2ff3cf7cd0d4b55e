# SPDX-License-Identifier: Apache-2.0
"""Names for invocations, so that records of two of them in one file are told apart."""

import os
from datetime import UTC, datetime

__all__ = ["new_run_id"]


def new_run_id() -> str:
    """``<UTC yyyymmddThhmmssZ>-<8 hexadecimal digits>``: in order of time, and never twice the same."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}"
