# SPDX-License-Identifier: Apache-2.0
"""Can the simulator be believed? Predictions held against measurements that it has not seen."""
