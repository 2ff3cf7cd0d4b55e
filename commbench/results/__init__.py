# SPDX-License-Identifier: Apache-2.0
"""What was observed: immutable records, the journal they are kept in, and the environment they came from."""
