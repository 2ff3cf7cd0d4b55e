# SPDX-License-Identifier: Apache-2.0
"""From measured runs to the numbers of a topology."""
