# SPDX-License-Identifier: Apache-2.0
"""What a person sees: tables, plots and one self-contained HTML page; computes nothing new."""
