# SPDX-License-Identifier: Apache-2.0
"""From a model to a step: shapes, parallel groups, pipeline schedules, memory and traffic, as data and arithmetic."""
