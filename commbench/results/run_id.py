# SPDX-License-Identifier: Apache-2.0
"""Names of invocations, so that no two share one."""

import secrets
from datetime import UTC, datetime

__all__ = ["new_run_id"]


def new_run_id() -> str:
    """``<UTC yyyymmddThhmmssZ>-<8 hex digits>``: unique, and sorted by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
