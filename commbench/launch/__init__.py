# SPDX-License-Identifier: Apache-2.0
"""What starts a run on a cluster: scripts and manifests for launchers, from one description of what is wanted."""
