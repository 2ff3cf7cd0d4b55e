# SPDX-License-Identifier: Apache-2.0
"""Markers that need something special of the machine: where it is missing, the test is skipped, with the reason.

``tests`` is a package whose parent is on the import path, so any test may ``from tests.cases import ...``.
"""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import settings

# The same examples on every machine and every day: a failure is a change in the code, never luck.
settings.register_profile("commbench", derandomize=True, deadline=None)
settings.load_profile("commbench")

os.environ.pop("COLUMNS", None)  # tables are as wide as in a pipe, whatever the terminal or pytest-xdist says

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@cache
def why_no_root() -> str:
    """Why network namespaces cannot be made here; "" if they can."""
    if os.geteuid() != 0:
        return "needs root: run the tests as root to have this one"
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "needs the commands unshare and ip (util-linux, iproute2)"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return "" if made.returncode == 0 else f"needs network namespaces: {made.stderr.strip()}"


@cache
def why_no_gpu() -> str:
    """Why there is no CUDA device here; "" if there is one."""
    try:
        import torch
    except ImportError:
        return "needs torch: pip install 'commbench[run]'"
    return "" if torch.cuda.is_available() else "needs a CUDA device: torch finds none"


@cache
def why_no_browser() -> str:
    """Why there is no headless Chromium here; "" if there is one."""
    if any(map(shutil.which, _BROWSERS)):
        return ""
    return f"needs headless Chromium: none of {', '.join(_BROWSERS)} is on PATH"


NEEDS: dict[str, Callable[[], str]] = {"root": why_no_root, "gpu": why_no_gpu, "browser": why_no_browser}


_ALONE = {"root", "measured"}  # markers, and folders below: fabrics, and what is timed, have the machine to themselves
_ALONE_FOLDERS = {"emulate"}
_LONG = (  # files of half a minute and more: one that comes last would keep one worker busy while the other has nothing
    "test_readme", "test_run", "test_schedules", "test_launchers", "test_golden", "test_engines",
    "test_tensor_parallel", "test_benchmarks", "test_recipes", "test_pipeline", "test_strict_jobs",
    "test_lab_judge", "test_sweep", "test_forms", "test_scenario_engines", "test_mutations", "test_every_algorithm",
    "test_network_seam", "test_measure", "test_diagnose", "test_planning", "test_sim_train", "test_kernel_state",
    "test_demo", "test_steady",
)  # fmt: skip
_ANEW = 5  # a machine that others disturb for a minute is no fault of the code; one of the code fails each time


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG))
    for item in items:
        if item.path.parent.name in _ALONE_FOLDERS or any(map(item.get_closest_marker, _ALONE)):
            item.add_marker("alone")
        if item.get_closest_marker("measured"):
            item.add_marker(pytest.mark.flaky(reruns=_ANEW, reruns_delay=2))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, why_not in NEEDS.items():
        if item.get_closest_marker(marker) and (reason := why_not()):
            pytest.skip(reason)


@pytest.fixture(scope="session")
def count_cases() -> Counter[str]:
    """How many schedules each judge has seen in this session."""
    return Counter()
