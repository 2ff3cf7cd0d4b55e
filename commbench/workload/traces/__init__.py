# SPDX-License-Identifier: Apache-2.0
"""Traces of other programs as programs: compute as it was measured, communication to be simulated."""
