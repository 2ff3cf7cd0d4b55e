# SPDX-License-Identifier: Apache-2.0
"""The pages in a real browser, offline: an empty console, no request, and everything that the script promises."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commbench.report.load import fabric_load, load_colour
from commbench.report.page import ReportInput, render
from commbench.report.text import time_text
from commbench.results.records import Compared, Measured, Simulated
from commbench.topology.layout import layout
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective
from tests.report import samples
from tests.report.browser import FRAMES, Browser
from tests.report.page_types import PAGE_TYPES

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"console.error('markup')\">&quot;"
# Texts of the charts that sit on each other or stick out of their figure.
CROWDED = """(() => {
  const overlaps = [], outside = [];
  for (const svg of document.querySelectorAll("figure:not(.zoomed) .plot svg")) {
    if (!svg.getClientRects().length) continue;  // the same picture for another width
    const frame = svg.closest("figure").getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([a, p], i) => {
      const edge = getComputedStyle(svg).overflow === "hidden" ? svg.getBoundingClientRect() : frame;
      if (p.left < edge.left - 1 || p.right > edge.right + 1) outside.push(a);
      for (const [b, q] of texts.slice(i + 1))
        if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
          overlaps.push([a, b]);
    });
  }
  return {overlaps, outside};
})()"""
# Words of tables, no longer than most columns are wide, that stand on two lines.
BROKEN = """(() => {
  const found = [], range = document.createRange();
  for (const cell of document.querySelectorAll("td.w")) {
    const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode())
      for (const word of node.textContent.matchAll(/[A-Za-z0-9]{2,12}/g)) {
        if (cell.querySelector("code") || cell.textContent.split(/\\s/).some(one => one.length > 14)) continue;
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) found.push(word[0]);
      }
  }
  return found;
})()"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
COMPARED = '[aria-labelledby="compared-title"]'


SCROLLED = """[...document.querySelectorAll('figure:not(.zoomed) .plot, .scroll')]
  .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.closest('section').id + ' ' + box.scrollWidth)"""
SMALLEST = """Math.min(99, ...[...document.querySelectorAll('.plot svg')]
  .filter(svg => svg.getClientRects().length && svg.querySelector('text'))
  .map(svg => Math.min(...[...svg.querySelectorAll('text')].map(node => parseFloat(getComputedStyle(node).fontSize)))
    * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))"""


def pages(folder: Path) -> dict[str, str]:
    """One of each type, one with everything of collectives, and one of hostile names."""
    simulation = samples.simulation("fat-tree-16", links=True, explain=True)
    large = load_fabric("fat-tree-1024")
    scattered = simulate_collective(large, "all-to-all", "direct", 2**20, num_ranks=16, placement="random", links=True)
    types = {name: make(folder / name) for name, make in PAGE_TYPES.items() if not (folder / name).mkdir()}
    return {
        **{name: made.page for name, made in types.items()},
        "everything": render(
            ReportInput(
                title="everything",
                records=[*samples.everything(), simulation.record],
                topologies=[load_fabric("fat-tree-16")],
                simulation=simulation,
                command=samples.COMMAND,
                calibration=samples.CALIBRATION,
            )
        ),
        "scattered": render(ReportInput("page", [scattered.record], topologies=[large], simulation=scattered)),
        "hostile": render(
            ReportInput(
                HOSTILE,
                [samples.measured(HOSTILE, run=HOSTILE, launcher=HOSTILE, environment={"hostname": HOSTILE})],
                notes=[HOSTILE],
                command=HOSTILE,
            )
        ),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return pages(tmp_path_factory.mktemp("types"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def everything(browser: Browser, made: dict[str, str], tmp_path: Path) -> Browser:
    browser.open(made["everything"], tmp_path / "page.html")
    return browser


@pytest.mark.parametrize("name", ["everything", "scattered", "hostile", *PAGE_TYPES])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_is_quiet_keeps_to_itself_and_is_as_wide_as_its_window(
    browser: Browser, made: dict[str, str], tmp_path: Path, name: str, width: int
) -> None:
    file = tmp_path / "page.html"
    browser.open(made[name], file, width=width)
    assert browser.look("innerWidth") == width
    assert browser.look(SIDEWAYS) == 0
    assert browser.console == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {file.as_uri()}
    assert browser.look(CROWDED) == {"overlaps": [], "outside": []}
    if width == 390:
        assert browser.look(SCROLLED) == [], "nothing but maps of fabrics needs sideways scrolling on a phone"
    assert browser.look(SMALLEST) >= 9, "pixels of the smallest text of a picture"


@pytest.mark.parametrize("name", ["everything", "scattered", *PAGE_TYPES])
def test_on_paper_a_page_is_as_wide_as_the_paper_and_no_short_word_is_broken(
    browser: Browser, made: dict[str, str], tmp_path: Path, name: str
) -> None:
    """Words such as "assumed" and "closed form" stood in columns of three letters."""
    browser.open(made[name], tmp_path / "page.html", width=718)  # A4 without its margins
    browser.call("Emulation.setEmulatedMedia", media="print")
    beyond, broken = browser.look(SIDEWAYS), browser.look(BROKEN)
    browser.call("Emulation.setEmulatedMedia", media="")
    assert beyond <= 0
    assert broken == []


def test_the_map_of_a_fabric_is_whole_at_first_and_larger_on_demand(everything: Browser) -> None:
    shown = "document.querySelector('#topology svg').getBoundingClientRect().width"
    before = everything.look(shown)
    everything.click("#topology .tools button")
    assert everything.look(shown) == pytest.approx(1.6 * before, rel=0.01)
    everything.click("#topology .tools button:last-child")
    assert everything.look(shown) == before
    assert everything.look(SIDEWAYS) == 0


def test_on_a_phone_the_map_of_a_fabric_scrolls_in_its_frame(
    browser: Browser, made: dict[str, str], tmp_path: Path
) -> None:
    """It was shrunk to the page, its words to 3 pixels."""
    browser.open(made["everything"], tmp_path / "page.html", width=390)
    shown = "document.querySelector('#topology svg').getBoundingClientRect().width"
    room = "document.querySelector('#topology .plot').clientWidth"
    disabled = "[...document.querySelectorAll('#topology .tools button')].slice(0, 3).map(node => node.disabled)"
    before = browser.look(shown)
    assert before > 2 * browser.look(room)
    assert browser.look(SIDEWAYS) == 0
    browser.click("#topology .tools button")
    assert browser.look(shown) == pytest.approx(1.6 * before, rel=0.01)
    browser.click("#topology .tools button:nth-child(2)")
    assert browser.look(shown) == pytest.approx(before, rel=0.01)
    assert browser.look(disabled) == [False, False, False]
    browser.click("#topology .tools button:nth-child(3)")
    assert browser.look(shown) == browser.look(room)
    assert browser.look(disabled) == [False, True, True]


def test_a_slider_colours_links_by_their_load_at_a_time(everything: Browser) -> None:
    done, fabric = samples.simulation("fat-tree-16", links=True), load_fabric("fat-tree-16")
    load = fabric_load(fabric, done, {frozenset(stroke.ends) for stroke in layout(fabric).strokes})
    lines = "document.querySelectorAll('#topology [data-loads]')"
    colours = f"[...{lines}].map(line => getComputedStyle(line).stroke)"
    whole = everything.look(colours)
    told = everything.look(f"[...{lines}].map(line => line.dataset.loads)")
    assert sorted(told) == sorted(" ".join(map(str, one.by_time)) for one in load.links.values())
    for at in (0, 31, 59):
        everything.look(
            f"(field => {{ field.value = {at}; field.dispatchEvent(new Event('input')); }})"
            "(document.querySelector('#topology [type=range]'))"
        )
        shares = [int(one.split()[at]) / 1000 for one in told]
        assert everything.look(colours) == [_rgb(load_colour(share)) for share in shares]
        span = f"{time_text(load.edges_s[at])} to {time_text(load.edges_s[at + 1])}"
        assert span in everything.look("document.querySelector('#topology .time').textContent")
    busy = max(range(len(told)), key=lambda i: int(told[i].split()[59]))
    everything.look(f"{lines}[{busy}].closest('.mark').id = 'busy'")
    everything.point("#busy")
    assert f"at most {int(told[busy].split()[59]) / 10:.1f} % of the bandwidth" in _tip(everything)
    everything.point("h1")  # what is pointed at is drawn in ink
    assert everything.look(colours) != whole
    everything.look("dispatchEvent(new Event('beforeprint'))")
    assert everything.look(colours) == whole
    assert len(set(whole)) > 1


def _rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def test_on_a_phone_rows_are_cards_that_name_their_columns(
    browser: Browser, made: dict[str, str], tmp_path: Path
) -> None:
    browser.open(made["everything"], tmp_path / "page.html", width=390)
    first = f"document.querySelector('{COMPARED} tbody td')"
    assert browser.look(f"getComputedStyle({first}, '::before').content") == '"algorithm"'
    browser.click(f"{COMPARED} th:last-child button")
    assert (up := _column(browser)) == sorted(up)


def test_a_request_would_be_seen(browser: Browser, made: dict[str, str], tmp_path: Path) -> None:
    """The probe itself: a picture from outside is blocked by the page's own policy, and that shows in the console."""
    page = made["everything"].replace("</main>", '<img src="https://example.invalid/x.png" alt=""></main>')
    browser.open(page, tmp_path / "page.html")
    assert any("example.invalid" in line for line in browser.console)


def test_text_that_sits_on_other_text_would_be_seen(browser: Browser, made: dict[str, str], tmp_path: Path) -> None:
    page = made["step"].replace("</svg>", '<text x="90" y="40">on</text><text x="91" y="40">top</text></svg>')
    browser.open(page, tmp_path / "page.html")
    assert ["on", "top"] in browser.look(CROWDED)["overlaps"]


def _column(browser: Browser, place: str = ":last-child") -> list[float]:
    cells = f"document.querySelectorAll('{COMPARED} tbody tr:not([hidden]) td{place}')"
    found: list[float] = browser.look(f"[...{cells}].map(cell => Number(cell.dataset.sort))")
    return found


def test_a_click_on_a_heading_sorts(everything: Browser) -> None:
    everything.click(f"{COMPARED} th:last-child button")
    up = _column(everything)
    assert len(up) == 14
    assert up == sorted(up)
    everything.click(f"{COMPARED} th:last-child button")
    assert _column(everything) == up[::-1]


def _tools(browser: Browser, what: str) -> None:
    """Mark the tools of the table of compared points, so that they can be clicked."""
    browser.look(f"document.querySelector('{COMPARED}').previousElementSibling.id = 'tools'")
    browser.click(f"#tools {what}")


def test_words_in_the_field_filter_rows_and_what_is_left_is_copied_as_csv(everything: Browser) -> None:
    _tools(everything, "input")
    everything.type("ring fit")
    fits = [r for r in samples.everything() if isinstance(r, Compared) and (r.algorithm, r.set) == ("ring", "fit")]
    assert len(_column(everything)) == len(fits) > 0
    assert everything.look("document.querySelector('#tools span').textContent") == f"{len(fits)} of 14 rows"
    everything.look("navigator.clipboard.writeText = async text => { window.copied = text; }")
    _tools(everything, "button")
    heads, *rows = csv.reader(io.StringIO(everything.look("window.copied")))
    at = {name: heads.index(name) for name in ("size (B)", "measured median (s)", "error signed")}
    told = [[float(row[place]) for place in at.values()] for row in rows]
    assert told == [[r.size_bytes, r.measured_s, r.error] for r in fits]


def _tip(browser: Browser) -> str:
    return str(browser.look("document.querySelector('#tip').hidden ? '' : document.querySelector('#tip').textContent"))


def test_pointing_at_a_mark_shows_the_value_of_its_record(everything: Browser) -> None:
    timed = [r for r in samples.everything() if isinstance(r, Measured | Simulated) and r.algorithm == "ring"]
    for record in timed[::4]:
        mark = f'#curves .mark[data-size-bytes="{record.size_bytes}"][data-time-s="{record.time_s!r}"]'
        everything.point(mark)
        assert time_text(record.time_s) in _tip(everything), record
        assert everything.look("[...document.querySelectorAll('#tip')].length") == 1
    everything.point("h1")
    assert _tip(everything) == ""


def test_a_click_on_a_name_hides_its_line_in_both_pictures(everything: Browser) -> None:
    lines = "document.querySelector('.panel').querySelectorAll('.series[data-series=\"0\"]')"
    state = f"[...{lines}].map(line => line.classList.contains('off'))"
    before = everything.look(state)
    everything.click('.panel [data-toggle="0"]')
    assert everything.look(state) == [not off for off in before] == [True] * len(before)
    assert len(before) >= 2
    everything.click('.panel [data-toggle="0"]')
    assert everything.look(state) == before


def _window(browser: Browser) -> tuple[float, float]:
    data: dict[str, Any] = browser.look("({...document.querySelector('#ranks svg.zoom').dataset})")
    return float(data.get("from", 0)), float(data.get("to", data["until"]))


def test_time_charts_zoom_to_one_transfer_and_back(everything: Browser) -> None:
    whole = _window(everything)
    last = "#ranks .bar[data-label='29']"
    begin, end = everything.look(f'(d => [Number(d.b), Number(d.e)])(document.querySelector("{last}").dataset)')
    everything.click(last, times=2)
    low, high = _window(everything)
    assert (low, high) == pytest.approx((max(0, min(begin - (end - begin) / 2, whole[1] - 2 * (end - begin))), high))
    assert high - low == pytest.approx(2 * (end - begin))
    shown = "[...document.querySelectorAll('#ranks .bar')].filter(bar => bar.style.display !== 'none')"
    spans = everything.look(f"{shown}.map(bar => [Number(bar.dataset.b), Number(bar.dataset.e)])")
    assert 0 < len(spans) < everything.look("document.querySelectorAll('#ranks .bar').length")
    assert all(e >= low and b <= high for b, e in spans)
    ticks = everything.look("[...document.querySelectorAll('#ranks .times text')].map(n => Number(n.textContent))")
    factor = everything.look("Number(document.querySelector('#ranks svg.zoom').dataset.factor)")
    assert len(ticks) >= 4
    assert all(low - 1e-9 <= tick * factor <= high + 1e-9 for tick in ticks)
    everything.click("#ranks .tools button:nth-of-type(5)")
    assert _window(everything) == pytest.approx(whole)


def test_bars_and_lines_are_drawn_as_the_svg_says(everything: Browser) -> None:
    """A rule of the style sheet for tables once gave all bars a width, and one for axes all lines their colour."""
    bars = everything.look(
        "[...document.querySelectorAll('#ranks .bar')].map(b => [+b.getAttribute('width'), b.getBBox().width])"
    )
    assert len(bars) > 100
    assert all(drawn == pytest.approx(said, abs=0.01) for said, drawn in bars)
    look = "line => [line.getAttribute('stroke'), getComputedStyle(line).stroke]"
    strokes = everything.look(f"[...document.querySelectorAll('#curves .chart .line')].map({look})")
    assert len({said for said, _ in strokes}) == len({drawn for _, drawn in strokes}) >= 2


def test_dragging_moves_the_window_and_the_wheel_zooms_with_ctrl_alone(everything: Browser) -> None:
    everything.click("#ranks .tools button")
    before = _window(everything)
    x, y = everything.place("#ranks svg.zoom")
    for kind, to in (("mousePressed", x), ("mouseMoved", x + 60), ("mouseMoved", x + 120), ("mouseReleased", x + 120)):
        everything.mouse(kind, to, y, button="left", buttons=1, clickCount=1)
    everything.look(FRAMES)
    moved = _window(everything)
    assert moved[0] < before[0]
    assert moved[1] - moved[0] == pytest.approx(before[1] - before[0])
    for modifiers, smaller in ((0, False), (2, True)):
        now = _window(everything)
        everything.mouse("mouseWheel", *everything.place("#ranks svg.zoom"), deltaX=0, deltaY=-120, modifiers=modifiers)
        everything.look("new Promise(done => setTimeout(done, 200))")
        then = _window(everything)
        assert (then[1] - then[0] < 0.99 * (now[1] - now[0])) is smaller


def test_hostile_names_show_as_text(browser: Browser, made: dict[str, str], tmp_path: Path) -> None:
    browser.open(made["hostile"], tmp_path / "page.html")
    assert browser.look("document.querySelector('h1').textContent") == HOSTILE
    assert browser.look("document.querySelectorAll('img').length") == 0
    browser.point("#curves .mark")
    assert HOSTILE in _tip(browser)
    assert browser.look("document.querySelectorAll('#tip *').length") == 0


def test_without_scripts_everything_is_readable(browser: Browser, made: dict[str, str], tmp_path: Path) -> None:
    browser.open(made["everything"], tmp_path / "page.html", scripts=False)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.look("document.querySelectorAll('#tip, .tools').length") == 0
    titles = browser.look("[...document.querySelectorAll('#curves .mark title')].map(node => node.textContent)")
    record = next(r for r in samples.everything() if isinstance(r, Measured))
    assert any(time_text(record.time_s) in title for title in titles)
    assert browser.look("[...document.querySelectorAll('main tr')].every(row => row.offsetHeight > 0)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_the_paper_in_both_schemes(
    browser: Browser, made: dict[str, str], tmp_path: Path, scheme: str
) -> None:
    """Contrast of 4.5 at the least (WCAG 2.1, AA) of ink, muted text and every series against the paper."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(made["everything"], tmp_path / "page.html")
    names = ["--ink", "--muted", *(f"--s{i}" for i in range(8))]
    colours = browser.look(
        f"{['--paper', *names]}.map(name => getComputedStyle(document.documentElement).getPropertyValue(name).trim())"
    )
    browser.call("Emulation.setEmulatedMedia", features=[])
    paper, *inks = map(_luminance, colours)
    for name, ink in zip(names, inks, strict=True):
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, name
    assert (paper > 0.5) is (scheme == "light")


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_printed_page_shows_all_rows_and_no_buttons(everything: Browser) -> None:
    everything.call("Emulation.setDeviceMetricsOverride", width=718, height=1000, deviceScaleFactor=1, mobile=False)
    everything.call("Emulation.setEmulatedMedia", media="print")  # of A4 with its margins
    assert everything.look(SIDEWAYS) == 0, "nothing is cut off at the right edge"
    assert everything.look("[...document.querySelectorAll('.tools, nav')].every(n => n.offsetHeight === 0)")
    assert everything.look("[...document.querySelectorAll('.scroll')].every(n => n.scrollHeight <= n.clientHeight + 1)")
    everything.call("Emulation.setEmulatedMedia", media="")
