// The rows that the page holds, to be searched, read and decided on. Texts of rows become text
// nodes and nothing else; nothing leaves the page but by the button that saves the list.
(() => {
  const { ORDERS, button, count, csv, make, number, wanted } = Report;
  const AT_ONCE = 100; // rows of the list that are drawn before more are asked for
  const SNIPPET = 160; // characters
  const MOST_OPTIONS = 200;

  const data = JSON.parse(document.getElementById("page-data").textContent);
  const [DROP, KEEP, UNSURE] = data.words;
  const store = `geofilter ${data.key}`;
  const decisions = new Map(); // row -> word
  const undone = []; // for each act the rows that it was about, with what was decided before
  const lines = new Map(); // row -> its line, of those that are drawn
  let found = [], drawn = 0, active = null;

  const list = make("div", { className: "picks", role: "list", id: "picks" });
  const shown = make("p", { className: "note", role: "status" });
  const more = button("", () => draw(drawn + AT_ONCE));
  const save = button("", download), back = button("Undo", undo);
  const search = make("input", { type: "search", placeholder: "words of the text" });
  const order = select(Object.keys(ORDERS).map((name) => [name, name]));
  const filters = []; // pairs of a select and what it asks of a row
  const threshold = Report.threshold(data, () => {
    if (byFate?.value) refresh();
  });

  // Decisions

  function decide(rows, word) {
    undone.push(rows.map((row) => [row.row, decisions.get(row.row)]));
    for (const row of rows) set(row.row, word);
    changed();
  }

  function set(row, word) {
    if (word) decisions.set(row, word);
    else decisions.delete(row);
    if (lines.has(row)) label(lines.get(row), row);
  }

  function label(line, row) {
    const word = decisions.get(row) ?? "";
    const chip = line.querySelector(".decision");
    chip.textContent = word;
    chip.className = `decision ${word}`;
  }

  function undo() {
    for (const [row, word] of undone.pop() ?? []) set(row, word);
    changed();
  }

  function changed() {
    const n = decisions.size;
    save.textContent = `Save review.csv (${count(n)} ${n === 1 ? "decision" : "decisions"})`;
    save.disabled = n === 0;
    back.disabled = undone.length === 0;
    try {
      localStorage.setItem(store, JSON.stringify([...decisions]));
    } catch { /* Not every browser lets a page from a disk keep something. */ }
  }

  function restore() {
    try {
      const rows = new Set(data.listed.map((row) => row.row));
      for (const [row, word] of JSON.parse(localStorage.getItem(store) ?? "[]")) {
        if (rows.has(row) && data.words.includes(word)) decisions.set(row, word);
      }
    } catch { /* What something else left there is no decision. */ }
  }

  function download() {
    const link = make("a", { download: "review.csv" });
    link.href = URL.createObjectURL(new Blob([csv(data, decisions)], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // Which rows

  function select(options) {
    const made = make("select");
    made.append(...options.map(([value, words]) => make("option", { value, textContent: words })));
    made.addEventListener("change", refresh);
    return made;
  }

  function filter(words, options, test) {
    const made = select([["", "any"], ...options]);
    filters.push([made, test]);
    return named(words, made);
  }

  const named = (words, control) => make("label", {}, make("span", { textContent: words }), control);

  // Values with how many rows have them, the most frequent first.
  function tallied(values, words) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]).slice(0, MOST_OPTIONS)
      .map(([value, n]) => [String(value), `${words(value)} (${count(n)})`]);
  }

  const feature = (id) => (data.labels[id] ? `${id}: ${data.labels[id]}` : String(id));

  function asked() {
    const made = data.columns.map((column, place) => {
      const options = tallied(data.listed.map((row) => row.codes[place]),
        (code) => data.values[place][code]);
      return options.length > 1
        && filter(column, options, (row, value) => String(row.codes[place]) === value);
    });
    const features = tallied(data.listed.flatMap((row) => row.features), feature);
    made.push(features.length > 1
      && filter("feature", features, (row, value) => row.features.includes(Number(value))));
    const statuses = tallied(data.listed.map((row) => row.status), (name) => name.replace(/_/g, " "));
    made.push(statuses.length > 1
      && filter("status", statuses, (row, value) => row.status === value));
    made.push(
      filter("by the threshold", data.fates.map((words) => [words, words]),
        (row, value) => threshold.goes(row) === (value === data.fates[0])));
    byFate = filters.at(-1)[0];
    made.push(
      filter("decision", ["open", ...data.words].map((word) => [word, word]),
        (row, value) => (decisions.get(row.row) ?? "open") === value));
    return made.filter(Boolean);
  }

  function refresh() {
    const tests = filters.filter(([one]) => one.value !== "")
      .map(([one, test]) => (row) => test(row, one.value));
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = data.listed.filter((row) => wanted(row, words, tests)).sort(ORDERS[order.value]);
    lines.clear();
    list.replaceChildren();
    drawn = 0;
    draw(AT_ONCE);
    open(found[0] ?? null, false);
  }

  // The list

  function draw(upTo) {
    list.append(...found.slice(drawn, upTo).map(line));
    drawn = Math.min(upTo, found.length);
    const rest = found.length - drawn;
    more.hidden = rest === 0;
    more.textContent = `${count(Math.min(rest, AT_ONCE))} more of ${count(rest)}`;
    const left = data.rows - data.listed.length;
    const others = left ? `: the nearest to harm, and some at the cut, at random and without a `
      + `score. The other ${count(left)} of ${count(data.rows)} are in counts and rates only.` : ".";
    shown.textContent = `${count(found.length)} of the ${count(data.listed.length)} rows that this `
      + `page holds${others}`;
  }

  function line(row) {
    const text = row.turns.findLast((turn) => turn[2])?.[1] ?? "";
    const head = row.score === null
      ? [make("strong", { textContent: row.status.replace(/_/g, " ") })]
      : [make("strong", { textContent: `rank ${count(row.rank)}` }),
        make("span", { className: "score", textContent: number(row.score, 4) }),
        make("span", { className: "fate", "data-row": row.row })];
    const made = make("article", { className: "pick", role: "listitem", tabIndex: -1 },
      make("header", {}, ...head, make("span", { className: "decision" }),
        make("span", { className: "place", textContent: row.where })),
      make("p", { className: "snippet", dir: "auto",
        textContent: text.slice(0, SNIPPET).replace(/\s+/g, " ") }));
    made.addEventListener("click", (event) => {
      // A button has gone on to another row already.
      if (active !== row && !event.target.closest("button")) open(row, true);
    });
    made.addEventListener("focus", () => open(row, false));
    lines.set(row.row, made);
    label(made, row.row);
    if (row.score !== null) threshold.fate(made.querySelector(".fate"));
    return made;
  }

  // Show the whole of `row`, and close the one that was open.
  function open(row, isFocused) {
    const before = list.querySelector(".active"), now = row && lines.get(row.row);
    if (before && before !== now) {
      before.classList.remove("active");
      before.tabIndex = -1;
      before.querySelector(".whole").remove();
    }
    active = row;
    if (!now) return;
    if (before !== now) {
      now.classList.add("active");
      now.tabIndex = 0;
      now.append(whole(row));
    }
    if (isFocused) {
      now.focus({ preventScroll: true });
      now.scrollIntoView({ block: "nearest" });
    }
  }

  function whole(row) {
    const turns = row.turns.map(([role, text, isResponse, isCut]) =>
      make("div", { className: isResponse ? "turn response" : "turn" },
        make("span", { className: "role", textContent: role }),
        make("div", { className: "said", dir: "auto" }, text,
          make("span", { className: "cut", textContent: isCut ? " \u2026 cut here" : "" }))));
    const notes = [
      row.reason,
      row.left && `${count(row.left)} more turns are not shown.`,
      row.features.length && `Features: ${row.features.map(feature).join(", ")}`,
    ];
    const made = make("div", { className: "whole" }, ...turns,
      ...notes.filter(Boolean).map((words) => make("p", { className: "note", textContent: words })),
      make("div", { className: "buttons" },
        ...[[DROP, "d"], [KEEP, "k"], [UNSURE, "u"], ["", "x"]].map(([word, key]) =>
          button(`${word || "open again"} (${key})`, () => choose(row, word)))));
    if (document.getElementById(`row-${row.row}`)) {
      made.append(make("a", { href: `#row-${row.row}`, textContent: "among the rows below" }));
    }
    return made;
  }

  function choose(row, word) {
    decide([row], word);
    if (!word) return;
    const place = found.indexOf(row);
    const next = found.findIndex((one, at) => at > place && !decisions.has(one.row));
    step(next < 0 ? 1 : next - place);
  }

  function step(by) {
    const place = found.indexOf(active) + by;
    if (place < 0 || place >= found.length) return;
    while (place >= drawn) draw(drawn + AT_ONCE);
    open(found[place], true);
  }

  const keys = {
    d: () => choose(active, DROP), k: () => choose(active, KEEP), u: () => choose(active, UNSURE),
    x: () => choose(active, ""), z: undo, "/": () => search.focus(),
    ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), i: () => step(-1),
  };
  // The keys are for the list once this section is used, until another part of the page is; where
  // something is typed or chosen they are not.
  const section = document.getElementById("decide");
  let isUsed = false;
  for (const kind of ["pointerdown", "focusin"]) {
    document.addEventListener(kind, (event) => { isUsed = section.contains(event.target); });
  }
  search.addEventListener("keydown", (event) => event.key === "Enter" && open(active, true));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !active || !keys[event.key]) return;
    if (!isUsed || event.target.closest("input, select")) return;
    event.preventDefault();
    keys[event.key]();
  });

  const explained = [["d", "drop"], ["k", "keep"], ["u", "unsure"], ["x", "open again"],
    ["z", "undo"], ["\u2193 or j", "next"], ["\u2191 or i", "previous"], ["/", "search"]]
    .flatMap(([key, words], place) =>
      [place ? ", " : "", make("kbd", { textContent: key }), ` ${words}`]);
  let waiting, byFate;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 120);
  });
  document.getElementById("deciding").replaceChildren(
    make("p", { className: "lead" }, "Read a row and say what is to become of it. Once you "
      + "have clicked in this section, or come to it by Tab, the keys are ", ...explained, ". The saved list is for ",
      make("code", { textContent: "geofilter filter DATA --drop-rows review.csv -o kept.jsonl" }),
      ", which drops exactly the rows that are marked drop."),
    make("div", { className: "asked" }, named("search", search), ...asked(), named("order", order)),
    make("div", { className: "buttons" }, save, back, ...data.words.map((word) =>
      button(`${word} all that are listed`, () => decide([...found], word)))),
    shown, list, more);
  restore();
  changed();
  refresh();
  threshold.move(null);
})();
