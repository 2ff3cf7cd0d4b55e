# SPDX-License-Identifier: Apache-2.0
"""What this machine is, as far as the system tells, and what is suspicious about it."""
