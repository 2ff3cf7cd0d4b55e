# SPDX-License-Identifier: Apache-2.0
"""Which strategy to take: all of them by closed form, those that may win by exact simulation."""
