// The threshold that can be moved, and all of the page that follows it.
Report.threshold = (data, follow) => {
  const { button, count, make, number, percent, ticks, wilson } = Report;
  const WIDE = 1000; // units of a drawing
  const none = data.thresholds.length; // the place after the last: no row goes
  const start = data.start.threshold === null || data.start.dropped === 0
    ? none : data.thresholds.indexOf(data.start.threshold);
  let at = null; // null: the choice that the page was written with

  const cut = () => data.thresholds[at ?? start] ?? Infinity;
  const goes = (row) => (at === null ? row.goes : row.score !== null && row.score >= cut());
  const dropped = () => (at === null ? data.start.dropped : data.above[at] ?? 0);

  const slider = make("input", { type: "range", min: 0, max: none, value: start, id: "threshold" });
  const result = make("output");
  const hint = make("span");
  const reset = button("as it was", () => {
    slider.value = start;
    move(null);
  });
  slider.setAttribute("aria-describedby", "moved");
  slider.addEventListener("input", () => move(Number(slider.value)));

  // What stands in the page as written, to be put back.
  const written = new Map();
  function kept(element, key, value) {
    if (!written.has(element)) written.set(element, new Map());
    const values = written.get(element);
    if (!values.has(key)) values.set(key, value());
    return values.get(key);
  }

  function say(element, ...children) {
    if (!element) return;
    const before = kept(element, "children", () => [...element.childNodes]);
    element.replaceChildren(...(at === null ? before : children));
  }

  function change(element, name, value) {
    const before = kept(element, name, () => element.getAttribute(name) ?? "");
    element.setAttribute(name, at === null ? before : value);
  }

  function move(place) {
    at = place;
    reset.disabled = at === null;
    const n = dropped(), share = n / data.scored, x = cut();
    const shown = Number.isFinite(x) ? `from ${number(x, 4)} up` : "beyond every score";
    result.textContent =
      `${shown}: ${count(n)} of ${count(data.scored)} scored rows, ${percent(share)}`;
    slider.setAttribute("aria-valuetext", result.textContent);
    if (at === null) hint.textContent = "";
    else if (!Number.isFinite(x)) hint.textContent = "No row would go. ";
    else hint.textContent = `geofilter filter DATA --scores TABLE --threshold=${x} does it. `;
    say(document.querySelector("[data-live=lead]"),
      `${count(n)} of ${count(data.scored)} scored rows would be dropped, ${percent(share)}.`);
    say(document.querySelector("[data-live=dropped]"), count(n));
    say(document.querySelector("[data-live=share]"), `${percent(share)} of the scored`);
    for (const one of document.querySelectorAll("[data-live=moved]")) one.hidden = at === null;
    mark(x);
    rates(share);
    for (const one of document.querySelectorAll(".fate[data-row]")) {
      if (at !== null) one.classList.remove("unchosen");
      fate(one);
    }
    follow();
  }

  function mark(x) {
    const [low, high] = data.range;
    const place = Math.min(1, Math.max(0, (x - low) / (high - low || 1)));
    const figure = document.querySelector("#scores figure svg");
    const bars = figure ? [...figure.querySelectorAll("path.bar:not(.over)")] : [];
    if (!bars.length) return;
    if (!figure.querySelector("clipPath")) clip(bars);
    const where = Number.isFinite(x) ? place * WIDE : 2 * WIDE;
    figure.querySelector("clipPath rect").setAttribute("x", where);
    figure.querySelector(".over").style.display = at === null ? "none" : "";
    for (const bar of bars) change(bar, "class", "bar");
    for (const one of document.querySelectorAll("#scores [data-mark]")) {
      const isCut = one.dataset.mark === "cut";
      one.style.display = isCut || at === null ? "" : "none";
      if (!isCut) continue;
      if (one.tagName === "path") {
        change(one, "d", Number.isFinite(x) ? `M${where} 0V300` : "");
        continue;
      }
      say(one, Number.isFinite(x) ? `would go from ${number(x, 4)} up` : "");
      const side = place > 0.5 ? `right:${100 - 100 * place}%` : `left:${100 * place}%`;
      change(one, "style", `${side};top:0`);
    }
  }

  // The bars once more in the accent's colour, seen from the threshold on.
  function clip(bars) {
    const drawn = (name, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    const path = drawn("clipPath", { id: "going" });
    path.append(drawn("rect", { x: 0, y: -10, width: 2 * WIDE, height: 320 }));
    const outline = bars.map((bar) => bar.getAttribute("d")).join("");
    bars.at(-1).after(path,
      drawn("path", { class: "bar strong over", d: outline, "clip-path": "url(#going)" }));
  }

  function rates(share) {
    const groups = [...document.querySelectorAll("tr[data-group]")]
      .filter((row) => data.groups[row.dataset.group])
      .map((row) => {
        const { above, scored } = data.groups[row.dataset.group];
        const some = above[at ?? start] ?? 0;
        return { row, value: some / scored, ends: wilson(some, scored) };
      });
    const highest = Math.max(0, ...groups.map((group) => group.ends[1]));
    const top = Math.min(1, Math.max(0.05, Math.ceil(highest * 20) / 20));
    const x = (value) => (Math.min(1, value / top) * WIDE).toFixed(2);
    for (const { row, value, ends: [low, high] } of groups) {
      change(row.querySelector(".usual"), "d", `M${x(share)} 0V100`);
      change(row.querySelector(".whisker"), "d", `M${x(low)} 50H${x(high)}`);
      change(row.querySelector(".point"), "d", `M${x(value)} 50h0`);
      change(row.querySelector("svg"), "aria-label",
        `${percent(value)}, 95 % interval ${percent(low)} to ${percent(high)}`);
      say(row.querySelector("td.n"), percent(value));
    }
    for (const axis of document.querySelectorAll(".rates .axis")) {
      say(axis, ...ticks(top, 3).map((tick) => {
        const label = make("span", { textContent: percent(tick) });
        label.style.left = `${100 * tick / top}%`;
        label.className = tick < 0.04 * top ? "first" : tick > 0.96 * top ? "last" : "";
        return label;
      }));
    }
  }

  const byRow = new Map(data.listed.map((row) => [row.row, row]));
  function fate(chip) {
    const row = byRow.get(Number(chip.dataset.row));
    if (!row || row.score === null) return;
    const is = goes(row);
    chip.textContent = data.fates[is ? 0 : 1];
    chip.classList.toggle("dropped", is);
    chip.classList.toggle("kept", !is);
  }

  const place = document.getElementById("moving");
  place.append(
    make("label", { htmlFor: "threshold", textContent: "Move the threshold" }),
    slider, result, reset,
    make("p", { className: "note", id: "moved" }, hint,
      "Counts and rates are of all rows. The marks, the counts, the rates of groups and what would "
      + "become of each row follow; the figures of length and baseline and the topics stay as they "
      + "were written."));
  place.hidden = false;
  return { fate, goes, move };
};
