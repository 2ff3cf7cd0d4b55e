# SPDX-License-Identifier: Apache-2.0
"""A fabric on one machine: network namespaces, shaped links and routes, and real ranks inside them."""
