# SPDX-License-Identifier: Apache-2.0
"""Events: engines that obey SEMANTICS.md."""
