# SPDX-License-Identifier: Apache-2.0
"""One run against another: the same definition, significant or not, and the history of many."""
