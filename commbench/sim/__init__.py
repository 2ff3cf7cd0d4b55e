# SPDX-License-Identifier: Apache-2.0
"""The simulator: engines that obey SEMANTICS.md, and what to ask of them."""
