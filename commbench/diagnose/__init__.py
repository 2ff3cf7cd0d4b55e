# SPDX-License-Identifier: Apache-2.0
"""Who is to blame: parts of a fabric that explain slow measurements, ranks that broke or delayed a collective."""
