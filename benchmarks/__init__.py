# SPDX-License-Identifier: Apache-2.0
"""Speed as ratios in one run: against SimGrid, engine against engine, growth, cold start. ``python -m benchmarks``."""
