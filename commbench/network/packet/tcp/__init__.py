# SPDX-License-Identifier: Apache-2.0
"""Packets under TCP: SEMANTICS.md beside this file says what happens."""
