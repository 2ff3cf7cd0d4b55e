# SPDX-License-Identifier: Apache-2.0
"""A whole step as a DAG, and the flat tasks that engines run."""
