# SPDX-License-Identifier: Apache-2.0
"""Messages as packets: queues, marks, pauses and losses; SEMANTICS.md beside this file says what happens when."""
