# SPDX-License-Identifier: Apache-2.0
"""The constants of the model of NCCL, fitted to public curves and judged on them. ``python -m benchmarks.nccl``."""
