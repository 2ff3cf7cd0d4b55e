# SPDX-License-Identifier: Apache-2.0
"""From a program to what engines run, once cluster and library are known."""
