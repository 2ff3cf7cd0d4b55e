# SPDX-License-Identifier: Apache-2.0
"""Load matplotlib, also where neither it nor fontconfig can keep its list of fonts: as in containers."""

import logging
import os
from types import ModuleType

__all__ = ["load_matplotlib"]


def load_matplotlib() -> ModuleType:
    """matplotlib with its fonts; without a cache both take a temporary folder, and the pages are the same.

    So nobody needs to hear of it: matplotlib would say so in two lines, fontconfig in five.

    Raises:
        OSError: there is no temporary folder either.
    """
    given, caches = os.environ.get("MPLCONFIGDIR"), os.environ.get("XDG_CACHE_HOME")
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        import matplotlib

        folder = matplotlib.get_cachedir()
        if os.environ.get("MPLCONFIGDIR") != given:  # where matplotlib names its temporary folder
            os.environ["XDG_CACHE_HOME"] = folder
        import matplotlib.font_manager  # asks fontconfig
    finally:
        log.setLevel(level)
        os.environ.pop("XDG_CACHE_HOME", None)
        os.environ.update({} if caches is None else {"XDG_CACHE_HOME": caches})
    return matplotlib
