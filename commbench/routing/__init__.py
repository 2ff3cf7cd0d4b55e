# SPDX-License-Identifier: Apache-2.0
"""Which links join two ranks."""
