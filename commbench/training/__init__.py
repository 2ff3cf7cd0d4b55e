# SPDX-License-Identifier: Apache-2.0
"""A training step on a fabric: what workload makes of a model, run by sim, as figures."""
