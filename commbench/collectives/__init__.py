# SPDX-License-Identifier: Apache-2.0
"""What is sent: collectives, schedules, their verifier and the algorithms that build them."""
