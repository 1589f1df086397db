// What the page's script computes, apart from the page: figures as the page's other parts write
// them, the list to save, and which rows are listed. Runs without a document, too.
"use strict";
const Report = (() => {
  const Z = 1.959963984540054; // 95 % of a normal distribution

  function number(value, digits = 3) {
    if (value === 0) return "0";
    const shown = Math.abs(value) >= 1000
      ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(digits)));
    return shown.replace("-", "\u2212");
  }

  const count = (value) => value.toLocaleString("en-US");

  function percent(share) {
    let shown = (100 * share).toFixed(share < 0.1 || share > 0.9 ? 1 : 0);
    if (share === 0 || share === 1) shown = String(100 * share);
    else if (share < 0.001) shown = "< 0.1";
    else if (share > 0.999) shown = "> 99.9";
    return `${shown}\u00a0%`;
  }

  // Wilson's interval of `some` of `all`.
  function wilson(some, all) {
    const share = some / all, square = Z * Z;
    const middle = (share + square / (2 * all)) / (1 + square / all);
    const half = Z * Math.sqrt(share * (1 - share) / all + square / (4 * all * all))
      / (1 + square / all);
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  // Round numbers from 0 to `high`, at most `most`.
  function ticks(high, most) {
    const power = 10 ** Math.floor(Math.log10(high / most));
    for (const factor of [1, 2, 5, 10]) {
      const last = Math.floor(high / (factor * power) + 1e-9);
      if (last + 1 <= most) {
        return Array.from({ length: last + 1 }, (_, place) => place * factor * power);
      }
    }
    return [0, high];
  }

  // A cell of the list: text on one line, an apostrophe before what a spreadsheet would compute.
  function cell(value, formula) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    let text = value.replace(/\n/g, "\\n").replace(/\t/g, "\\t");
    const first = text.trimStart()[0];
    if (first !== undefined && formula.includes(first)) text = `'${text}`;
    return /[",\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }

  function said(row, isResponse) {
    return row.turns.filter((turn) => turn[2] === isResponse)
      .map(([, text, , isCut]) => text + (isCut ? "\u2026" : "")).join("\n\n");
  }

  // The list that `filter --drop-rows` takes: a line for each decision, in the order of the rows.
  function csv(data, decisions) {
    const decided = data.listed.filter((row) => decisions.has(row.row));
    decided.sort((a, b) => a.row - b.row);
    const lines = decided.map((row) => {
      const values = {
        ...row, decision: decisions.get(row.row), row_hash: row.hash,
        prompt: said(row, false), response: said(row, true),
      };
      return data.fields.map((name) => cell(values[name], data.formula)).join(",");
    });
    return `${[data.fields.join(","), ...lines].join("\n")}\n`;
  }

  // The orders of the list. Rows without a score come last.
  const ORDERS = {
    "nearest to harm first": (a, b) => (a.rank ?? 1e15) - (b.rank ?? 1e15) || a.row - b.row,
    "farthest from harm first": (a, b) => (b.rank ?? 0) - (a.rank ?? 0) || a.row - b.row,
    "as in the data": (a, b) => a.row - b.row,
    "longest first": (a, b) => b.tokens - a.tokens || a.row - b.row,
  };

  // Whether a row holds each of the `words`, in lower case, and passes each of the `tests`.
  function wanted(row, words, tests) {
    if (!tests.every((test) => test(row))) return false;
    row.searched ??= [row.where, ...row.turns.map((turn) => turn[1])].join("\n").toLowerCase();
    return words.every((word) => row.searched.includes(word));
  }

  // An element whose children are elements, or texts that stay text.
  function make(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made) made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  function button(words, act) {
    const made = make("button", { type: "button", textContent: words });
    made.addEventListener("click", act);
    return made;
  }

  return { ORDERS, button, count, csv, make, number, percent, ticks, wanted, wilson };
})();
if (typeof module !== "undefined") module.exports = Report;
