# SPDX-License-Identifier: Apache-2.0
"""Connections for the fluid model."""
