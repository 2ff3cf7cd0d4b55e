# SPDX-License-Identifier: Apache-2.0
"""Who decides: which algorithm a collective takes, and what messages cost beside their payload."""
