# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per verb, no logic of its own."""

import gc

gc.set_threshold(100_000, 20, 20)  # imports make many objects and no garbage: a tenth of a short command's time
