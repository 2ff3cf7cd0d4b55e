# SPDX-License-Identifier: Apache-2.0
"""One experiment: from what is asked for to a job or a simulation, to records, to a comparison. Prints nothing."""
