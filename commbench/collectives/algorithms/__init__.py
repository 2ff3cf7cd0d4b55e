# SPDX-License-Identifier: Apache-2.0
"""Algorithms: short functions that return schedules and cite their paper."""
