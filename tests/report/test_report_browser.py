# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: an empty console, no request, tables that sort, labels that do not sit on each other."""

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from commbench.report.page import ReportInput, render
from commbench.topology.load import load_fabric
from tests.report import samples

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--window-size=1280,900",
    "--dump-dom",
)
# Put at the end of the page under test; leaves what it saw in an attribute of <body>.
PROBE = """<script>
addEventListener("securitypolicyviolation", e => console.error("blocked " + e.blockedURI));
addEventListener("load", () => {
  const seen = {requests: performance.getEntriesByType("resource").map(e => e.name), overlaps: [], outside: []};
  for (const svg of document.querySelectorAll("section:not(#topology) .plot svg")) {
    const frame = svg.closest("figure").getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([a, p], i) => {
      if (p.left < frame.left - 1 || p.right > frame.right + 1) seen.outside.push(a);
      for (const [b, q] of texts.slice(i + 1))
        if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
          seen.overlaps.push([a, b]);
    });
  }
  const table = document.querySelector('[aria-labelledby="compared-title"] table');
  const errors = () => [...table.tBodies[0].rows].map(r => +r.lastElementChild.dataset.sort);
  const button = table?.querySelector("th:last-child button");
  if (button) { button.click(); seen.up = errors(); button.click(); seen.down = errors(); }
  seen.sideways = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>"""


def look(page: str, folder: Path) -> dict[str, object]:
    """Open a page and return what the probe saw.

    Raises:
        AssertionError: something was written to the console.
    """
    browser = next(path for name in BROWSERS if (path := shutil.which(name)))
    file = folder / "page.html"
    file.write_text(page.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    command = [browser, *QUIET, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    before = 'data-seen="'
    assert before in done.stdout, f"the browser did not finish: {done.stderr[-2000:]}"
    start = done.stdout.index(before) + len(before)
    found: dict[str, object] = json.loads(unescape(done.stdout[start : done.stdout.index('"', start)]))
    return found


def everything() -> str:
    """A page with every section."""
    return render(
        ReportInput(
            title="everything",
            records=samples.everything(),
            topologies=[load_fabric("fat-tree-16")],
            simulation=samples.simulation("fat-tree-16"),
            command=samples.COMMAND,
            calibration=samples.CALIBRATION,
        )
    )


def test_the_page_is_quiet_and_keeps_to_itself(tmp_path: Path) -> None:
    seen = look(everything(), tmp_path)
    assert seen["requests"] == []
    assert seen["sideways"] == 0, "the page itself never scrolls sideways"
    assert seen["overlaps"] == []
    assert seen["outside"] == []


def test_a_click_on_a_heading_sorts(tmp_path: Path) -> None:
    seen = look(everything(), tmp_path)
    up, down = seen["up"], seen["down"]
    assert isinstance(up, list)
    assert len(up) == 14
    assert up == sorted(up)
    assert down == up[::-1]


def test_a_request_would_be_seen(tmp_path: Path) -> None:
    """The probe itself: a picture from outside is blocked by the page's own policy, and that shows in the console."""
    page = everything().replace("</main>", '<img src="https://example.invalid/x.png" alt=""></main>')
    with pytest.raises(AssertionError, match="blocked"):
        look(page, tmp_path)
