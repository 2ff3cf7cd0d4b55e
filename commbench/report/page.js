"use strict";
// Without this script everything on the page is readable: it only sorts, filters, copies, hides, zooms and points.
const make = (name, attributes, words = "") => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = words;
  return node;
};
const drawn = (name, attributes, words = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = words;
  return node;
};
const button = (words, label, act) => {
  const node = make("button", {type: "button", "aria-label": label, title: label}, words);
  node.addEventListener("click", act);
  return node;
};

// Tables: a click on a heading sorts, words in the field filter, a button copies what is shown.
const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
const raw = cell => {
  const shown = cell.textContent.trim();
  return cell.classList.contains("n") && cell.dataset.sort && /^[\d+\u2212-]/.test(shown) ? cell.dataset.sort : shown;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent;
  const order = (a, b) => a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * order(key(a, i), key(b, i)));
    body.append(...rows);
  }));
  const tools = make("p", {class: "tools"}), count = make("span", {"aria-live": "polite"});
  const field = make("input", {type: "search", placeholder: "filter rows", "aria-label": "filter rows"});
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean), rows = [...body.rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
    count.textContent = words.length ? `${rows.filter(row => !row.hidden).length} of ${rows.length} rows` : "";
  };
  field.addEventListener("input", filter);
  const csv = () => [
    heads.map(head => head.dataset.csv ?? head.textContent.trim()),
    ...[...body.rows].filter(row => !row.hidden).map(row => [...row.cells].map(raw)),
  ].map(line => line.map(quoted).join(",")).join("\n") + "\n";
  const copy = button("copy as CSV", "copy the rows shown as CSV, in SI units", async () => {
    await navigator.clipboard.writeText(csv());
    count.textContent = "copied";
  });
  if (body.rows.length > 3) tools.append(field);
  tools.append(copy, count);
  table.closest(".scroll").before(tools);
}
// On a phone every row is a card: each cell beside the heading of its column.
for (const table of document.querySelectorAll(".scroll table")) {
  const heads = [...table.tHead.rows[0].cells].map(head =>
    [...(head.querySelector("button") ?? head).childNodes].map(node => node.textContent.trim()).filter(Boolean).join(", "));
  if (heads.length < 3) continue;
  for (const row of table.tBodies[0].rows) for (const cell of row.cells) if (cell.colSpan === 1) cell.dataset.head = heads[cell.cellIndex];
  table.classList.add("cards");
}

// Marks: what stands in <title> for browsers without scripts is shown at once, beside the pointer.
const tip = make("div", {id: "tip", role: "status"}), told = new WeakMap();
tip.hidden = true;
document.body.append(tip);
const words = mark => {
  const title = mark.querySelector(":scope > title");
  if (title) { told.set(mark, title.textContent); title.remove(); }
  return told.get(mark);
};
const far = (mark, event) => {
  const box = (mark.querySelector(":scope > .reach") ?? mark).getBoundingClientRect();
  return Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
};
const pointed = event => {
  const first = event.target.closest?.(".mark, .bar");
  if (!first?.querySelector(":scope > .reach")) return first;
  const near = document.elementsFromPoint(event.clientX, event.clientY).map(node => node.closest(".mark")).filter(Boolean);
  return near.reduce((best, mark) => far(mark, event) < far(best, event) ? mark : best, first);
};
document.addEventListener("pointermove", event => {
  const mark = pointed(event), text = mark && (mark.dataset.now ?? words(mark));
  tip.hidden = !text;
  if (tip.hidden) return;
  if (tip.textContent !== text) tip.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 18 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? event.clientY + 18 : event.clientY - tip.offsetHeight - 12}px`;
});
addEventListener("scroll", () => { tip.hidden = true; }, true);

// Names of lines: a click hides the line in all pictures of its panel, another one brings it back.
for (const name of document.querySelectorAll("[data-toggle]")) {
  const panel = name.closest(".panel") ?? name.closest("figure"), wanted = name.dataset.toggle;
  const alike = (what, kind) => [...panel.querySelectorAll(what)].filter(node => node.dataset[kind] === wanted);
  const flip = () => {
    const off = !name.classList.contains("off");
    for (const node of [...alike(".series", "series"), ...alike("[data-toggle]", "toggle")]) node.classList.toggle("off", off);
    for (const node of alike("[data-toggle]", "toggle")) node.setAttribute("aria-pressed", String(!off));
  };
  name.setAttribute("role", "button");
  name.setAttribute("tabindex", "0");
  name.setAttribute("aria-pressed", "true");
  name.addEventListener("click", flip);
  name.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); flip(); }
  });
}

// Maps of fabrics: as large as words need at first, whole or larger on demand; what is larger than its frame scrolls.
for (const figure of document.querySelectorAll("figure.zoomed")) {
  const plot = figure.querySelector(".plot"), svg = plot.querySelector("svg");
  const now = () => svg.getBoundingClientRect().width, fits = () => Math.min(svg.viewBox.baseVal.width, plot.clientWidth);
  const size = to => {
    const wide = Math.min(8 * svg.viewBox.baseVal.width, Math.max(fits(), to)), grows = wide / now();
    const middle = [plot.scrollLeft + plot.clientWidth / 2, plot.scrollTop + plot.clientHeight / 2].map(at => at * grows);
    svg.style.minWidth = "0";
    svg.style.maxWidth = `${Math.max(wide, svg.viewBox.baseVal.width)}px`;
    svg.style.width = wide > fits() ? `${wide}px` : "";
    plot.scrollTo({left: middle[0] - plot.clientWidth / 2, top: middle[1] - plot.clientHeight / 2, behavior: "instant"});
    told();
  };
  const less = button("\u2212", "smaller", () => size(now() / 1.6)), whole = button("whole", "the whole picture", () => size(0));
  const told = () => { for (const node of [less, whole]) node.disabled = now() < fits() + 1; };
  const tools = make("p", {class: "tools"});
  tools.append(button("+", "larger", () => size(now() * 1.6)), less, whole);
  plot.before(tools);
  plot.scrollLeft = svg.dataset.left * now() / svg.viewBox.baseVal.width;  // where it scrolls, past the margin
  new ResizeObserver(told).observe(plot);
}

// Links by time: a slider colours them by their load in a slice of the run, at first and on paper by that of the whole.
const ramped = (ramp, share) => {
  const place = share * (ramp.length - 1), low = Math.min(Math.floor(place), ramp.length - 2);
  const [from, to] = [ramp[low], ramp[low + 1]].map(own => [1, 3, 5].map(i => parseInt(own.slice(i, i + 2), 16)));
  return `rgb(${from.map((a, i) => Math.round(a + (place - low) * (to[i] - a))).join(", ")})`;
};
for (const svg of document.querySelectorAll("svg[data-times]")) {
  const times = svg.dataset.times.split("|"), ramp = svg.dataset.ramp.split(" "), plot = svg.closest(".plot");
  const links = [...svg.querySelectorAll("[data-loads]")].map(line => {
    const mark = line.closest(".mark"), name = mark.querySelector("title").textContent.split(": in use")[0];
    return {line, mark, name, head: mark.querySelector("[fill^='#']"), loads: line.dataset.loads.split(" ").map(Number)};
  });
  const field = make("input", {type: "range", min: 0, max: times.length - 2, value: 0, "aria-label": "time in the run"});
  const told = make("span", {"aria-live": "polite"});
  let slice = null;
  const show = () => {
    const span = slice === null ? "" : `${times[slice]} to ${times[slice + 1]}`;
    for (const {line, mark, name, head, loads} of links) {
      const share = slice === null ? null : loads[slice] / 1000, colour = share === null ? "" : ramped(ramp, share);
      line.style.stroke = colour;
      line.style.strokeWidth = share === null ? "" : `${1 + 2.2 * share}px`;
      if (head) head.style.fill = colour;
      if (share === null) delete mark.dataset.now;
      else mark.dataset.now = `${name}, either way: at most ${(100 * share).toFixed(1)} % of the bandwidth\n${span}`;
    }
    all.disabled = slice === null;
    told.textContent = slice === null ? "load of the whole run; move the slider for a part of it" : `load from ${span}`;
    field.setAttribute("aria-valuetext", told.textContent);
  };
  const all = button("whole run", "load of the whole run", () => { slice = null; show(); });
  field.addEventListener("input", () => { slice = Number(field.value); show(); });
  addEventListener("beforeprint", () => { slice = null; show(); });
  const tools = make("p", {class: "tools time"});
  tools.append(field, all, told);
  plot.before(tools);
  show();
}

// Bars by time: zoom and pan. Every bar carries its begin and end in seconds.
const stepOf = (span, most) => {
  const ten = 10 ** Math.floor(Math.log10(span / most));
  return ten * [1, 2, 2.5, 5, 10, 20].find(factor => span / (ten * factor) < most);
};
for (const svg of document.querySelectorAll("svg.zoom")) {
  const [left, edge, top, bottom, until, factor] =
    ["left", "right", "top", "bottom", "until", "factor"].map(name => Number(svg.dataset[name]));
  const plot = svg.closest(".plot"), {width: natural, height} = svg.viewBox.baseVal;
  let right = edge;
  const bars = [...svg.querySelectorAll(".bar")].map(bar => [bar, Number(bar.dataset.b), Number(bar.dataset.e)]);
  const times = svg.querySelector(".times"), labels = svg.querySelector(".labels");
  let from = 0, to = until, waits = false;
  const place = time => left + (time - from) / (to - from) * (right - left);
  const axis = () => {
    const step = stepOf((to - from) / factor, Math.max(3, Math.min(10, (right - left) / 50))), ticks = [];
    for (let i = Math.ceil(from / factor / step - 1e-9); i * step * factor <= to * (1 + 1e-12); i++) ticks.push(i * step);
    const digits = Math.max(0, Math.min(12, 1 - Math.floor(Math.log10(step))));
    const at = tick => place(tick * factor).toFixed(2);
    times.replaceChildren(
      drawn("path", {d: ticks.map(tick => `M${at(tick)} ${top}V${bottom}`).join(""), class: "rule"}),
      ...ticks.map(tick => drawn("text", {x: at(tick), y: bottom + 13, dy: ".35em", "text-anchor": "middle", class: "tick"},
        String(Number(tick.toFixed(digits))))));
  };
  const draw = () => {
    waits = false;
    const made = [];
    for (const [bar, begin, end] of bars) {
      const out = end < from || begin > to || (end === from && begin < from);
      bar.style.display = out ? "none" : "";
      if (out) continue;
      const x = Math.max(left, place(begin)), width = Math.max(0.4, Math.min(right, place(end)) - x);
      bar.setAttribute("x", x.toFixed(2));
      bar.setAttribute("width", width.toFixed(2));
      const {label, ink} = bar.dataset;
      if (label && width >= 7 * label.length + 5)
        made.push(drawn("text", {x: (x + width / 2).toFixed(2), y: Number(bar.getAttribute("y")) +
          Number(bar.getAttribute("height")) / 2, dy: ".35em", "text-anchor": "middle", class: ink}, label));
    }
    labels.replaceChildren(...made);
    axis();
    svg.dataset.from = from;
    svg.dataset.to = to;
    for (const node of narrow) node.disabled = to - from >= until;
  };
  const show = (begin, end) => {
    const span = Math.min(until, Math.max(end - begin, until * 1e-7));
    from = Math.min(Math.max(0, begin), until - span);
    to = from + span;
    if (!waits) { waits = true; requestAnimationFrame(draw); }
  };
  const timeAt = event => {
    const box = svg.getBoundingClientRect(), width = svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) * width / box.width;
    return from + (Math.min(right, Math.max(left, x)) - left) / (right - left) * (to - from);
  };
  const zoom = (by, at = (from + to) / 2) => show(at - (at - from) / by, at + (to - at) / by);
  const pan = share => show(from + share * (to - from), to + share * (to - from));
  const narrow = [
    button("\u2212", "zoom out", () => zoom(0.5)), button("\u25c0", "earlier", () => pan(-0.3)),
    button("\u25b6", "later", () => pan(0.3)), button("whole", "the whole time", () => show(0, until)),
  ];
  for (const node of narrow) node.disabled = true;
  const tools = make("p", {class: "tools"});
  tools.append(button("+", "zoom in", () => zoom(2)), ...narrow,
    make("span", {}, "double-click a bar to see it alone; Ctrl and the wheel zoom, dragging moves"));
  plot.before(tools);
  // Narrower than it was drawn, the time axis shrinks and words stay as large as they are.
  const fit = () => {
    const room = Math.min(natural, plot.clientWidth);
    if (!room || room - (natural - edge) === right) return;
    right = room - (natural - edge);
    svg.setAttribute("viewBox", `0 0 ${room} ${height}`);
    svg.classList.toggle("fit", room < natural);
    svg.querySelector(".time").setAttribute("x", (left + right) / 2);
    draw();
  };
  new ResizeObserver(fit).observe(plot);
  fit();
  svg.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, timeAt(event));
  }, {passive: false});
  svg.addEventListener("dblclick", event => {
    const bar = event.target.closest(".bar:not(.idle)");
    if (!bar) return zoom(3, timeAt(event));
    const begin = Number(bar.dataset.b), end = Number(bar.dataset.e);
    show(begin - (end - begin) / 2, end + (end - begin) / 2);
  });
  let held = null;
  svg.addEventListener("pointerdown", event => {
    if (event.pointerType === "mouse" && event.button === 0 && to - from < until) held = [event.clientX, from, to];
  });
  svg.addEventListener("pointermove", event => {
    if (held === null) return;
    const box = svg.getBoundingClientRect(), pixels = (right - left) * box.width / svg.viewBox.baseVal.width;
    const moved = (held[0] - event.clientX) / pixels * (held[2] - held[1]);
    show(held[1] + moved, held[2] + moved);
  });
  for (const end of ["pointerup", "pointerleave"]) svg.addEventListener(end, () => { held = null; });
}
