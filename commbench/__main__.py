# SPDX-License-Identifier: Apache-2.0
"""``python -m commbench`` is ``commbench``."""

from commbench.cli.main import main

if __name__ == "__main__":
    main()
