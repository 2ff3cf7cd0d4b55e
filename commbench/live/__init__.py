# SPDX-License-Identifier: Apache-2.0
"""Real ranks: start them, run a collective with torch.distributed, time it, check it; torch only here."""
