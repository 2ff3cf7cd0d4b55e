# SPDX-License-Identifier: Apache-2.0
"""What ``--json`` prints where it is no record."""

__all__ = ["json_line"]


def json_line(kind: str, **facts: object) -> str:
    """One JSON object, with its kind and the schema as records have them."""
    import json

    return json.dumps({"kind": kind, "schema": 1, **facts})
