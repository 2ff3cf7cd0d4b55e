# SPDX-License-Identifier: Apache-2.0
"""How long flows take: the max-min solver, the fluid model, and lower bounds."""
