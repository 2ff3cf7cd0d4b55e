# SPDX-License-Identifier: Apache-2.0
"""Speed, as ratios in one run; seconds on a shared machine mean nothing by themselves."""
