# SPDX-License-Identifier: Apache-2.0
"""What to ask of the engines, and in which setting."""
