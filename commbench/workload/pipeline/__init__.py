# SPDX-License-Identifier: Apache-2.0
"""Pipeline schedules as data: who runs which pass of which microbatch in which order."""
