"use strict";

// ---------- theme: the system's, until the reader chooses ----------

const root = document.documentElement;
const themeButton = document.getElementById("theme");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const remembered = (() => {
  // Some browsers do not let pages from disk store anything.
  try { return localStorage.getItem("tutti-theme"); } catch { return null; }
})();

const isDark = () => (root.dataset.theme ?? (systemIsDark.matches ? "dark" : "light")) === "dark";

function showTheme() {
  themeButton.textContent = isDark() ? "Light theme" : "Dark theme";
}

if (remembered === "dark" || remembered === "light") root.dataset.theme = remembered;
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("tutti-theme", root.dataset.theme); } catch { /* as above */ }
  showTheme();
});
systemIsDark.addEventListener("change", showTheme);
showTheme();

// ---------- the numbers of a figure: its CSV file, kept once ----------

const csvOf = (name) => document.getElementById(`csv-${name}`).content.textContent;

// Only text is quoted, which distinguishes an empty text from a missing value.
function valueOf(field) {
  if (field.startsWith('"')) return field.slice(1, -1).replaceAll('""', '"');
  if (field === "") return null;
  if (field === "true" || field === "false") return field === "true";
  return Number(field);
}

function parseCsv(csv) {
  const lines = [[]];
  for (const [, field, end] of csv.matchAll(/("(?:[^"]|"")*"|[^,\n]*)(,|\n|$)/g)) {
    lines.at(-1).push(field);
    if (end === "\n") lines.push([]);
    if (end === "") break;
  }
  // The last line ends with a line break, too.
  const [header, ...rows] = lines.slice(0, -1);
  const columns = header.map(valueOf);
  return {
    columns,
    rows: rows.map((row) => Object.fromEntries(row.map((field, i) => [columns[i], valueOf(field)]))),
  };
}

for (const link of document.querySelectorAll("a[data-csv]")) {
  link.addEventListener("click", () => {
    const file = new Blob([csvOf(link.dataset.csv)], { type: "text/csv" });
    const address = URL.createObjectURL(file);
    link.href = address;
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  });
}

const format = (value) => {
  if (value === null) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(5)));
};

const MOST_ROWS = 500;

function cell(kind, text, isNumber) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (kind === "th") made.scope = "col";
  if (isNumber) made.className = "number";
  return made;
}

function showNumbers(details) {
  const { columns, rows } = parseCsv(csvOf(details.dataset.numbers));
  const isNumber = (name) => rows.some((row) => typeof row[name] === "number");
  const table = document.createElement("table");
  const caption = table.createCaption();
  caption.textContent = rows.length > MOST_ROWS
    ? `The first ${MOST_ROWS} of ${rows.length} rows; the CSV file has them all.`
    : details.dataset.title;
  const head = table.createTHead().insertRow();
  head.append(...columns.map((name) => cell("th", name.replaceAll("_", " "), isNumber(name))));
  const body = table.createTBody();
  for (const row of rows.slice(0, MOST_ROWS)) {
    body.insertRow().append(...columns.map((name) => cell("td", format(row[name]), isNumber(name))));
  }
  details.querySelector(".scroll").replaceChildren(table);
}

for (const details of document.querySelectorAll("details[data-numbers]")) {
  details.addEventListener("toggle", () => showNumbers(details), { once: true });
}

// ---------- tables: sorted by a click on a header, searched by words ----------

const sortValue = (row, column) => {
  const { dataset, textContent } = row.cells[column];
  return dataset.sort ?? textContent.trim();
};

function compare(first, second) {
  const numbers = [Number(first), Number(second)];
  return numbers.some(Number.isNaN) ? first.localeCompare(second) : numbers[0] - numbers[1];
}

function sortBy(table, header) {
  const isNumber = header.classList.contains("number");
  const was = header.getAttribute("aria-sort");
  // Readers want the largest number first, and the first name first.
  const first = isNumber ? "descending" : "ascending";
  const other = isNumber ? "ascending" : "descending";
  const order = was === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const column = header.cellIndex;
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [sortValue(a, column), sortValue(b, column)];
    // Unknown values come last in both orders.
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * compare(x, y);
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sortBy(table, button.closest("th")));
  }
}

function makeFilter(form) {
  const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const kinds = [...form.querySelectorAll("[name=kind]")];
  const chosen = kinds.filter((box) => box.checked).map((box) => box.value);
  const split = form.elements.split?.value ?? "";
  return (row) =>
    (kinds.length === 0 || chosen.includes(row.dataset.kind))
    && (split === "" || row.dataset.split === split)
    && words.every((word) => row.textContent.toLowerCase().includes(word));
}

for (const form of document.querySelectorAll("form.filters")) {
  const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
  const apply = () => {
    const wanted = makeFilter(form);
    let count = 0;
    for (const row of rows) {
      row.hidden = !wanted(row);
      count += row.hidden ? 0 : 1;
    }
    form.querySelector(".count").textContent = `${count} of ${rows.length}`;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

// ---------- contents: where the reader is; closed at first on a small screen ----------

if (matchMedia("(max-width: 900px)").matches) document.querySelector("nav details").open = false;

const links = new Map(
  [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]),
);
const visible = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) visible.add(target.id);
    else visible.delete(target.id);
  }
  const current = [...links.keys()].find((name) => visible.has(name));
  for (const [name, link] of links) {
    if (name === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "-10% 0px -60% 0px" });
for (const section of document.querySelectorAll("main > section")) watcher.observe(section);

// ---------- charts ----------

// Variables of the page's colours follow the theme and print without drawing charts again.
const CONFIG = {
  background: null,
  font: getComputedStyle(document.body).fontFamily,
  // The figure has a label; reading thousands of marks aloud would hide it.
  aria: false,
  view: { stroke: null },
  text: { color: "currentColor", fontSize: 12 },
  axis: {
    labelColor: "var(--muted)", titleColor: "var(--text)", gridColor: "var(--line)",
    domainColor: "var(--strong-line)", tickColor: "var(--strong-line)",
    labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, titlePadding: 8,
  },
  header: { labelColor: "var(--text)", titleColor: "var(--text)", labelFontSize: 12 },
  legend: {
    labelColor: "var(--text)", titleColor: "var(--muted)", labelFontSize: 12, titleFontSize: 12,
    titleFontWeight: 500, symbolBaseFillColor: "currentColor", symbolBaseStrokeColor: "currentColor",
  },
  title: { color: "var(--text)", fontSize: 13, anchor: "start" },
};

async function draw(chart) {
  const name = chart.dataset.chart;
  const spec = JSON.parse(document.getElementById(`spec-${name}`).content.textContent);
  for (const dataset of JSON.parse(chart.dataset.own)) {
    spec.datasets = { ...spec.datasets, [dataset]: parseCsv(csvOf(name)).rows };
  }
  await vegaEmbed(chart, spec, {
    actions: false,
    bind: document.getElementById(`menus-${name}`),
    config: CONFIG,
    defaultStyle: false,
    renderer: "svg",
    tooltip: { disableDefaultStyle: true },
  });
}

async function drawAll() {
  for (const chart of document.querySelectorAll(".chart")) {
    try {
      await draw(chart);
    } catch (error) {
      chart.textContent = `This chart cannot be drawn: ${error.message}`;
      console.error(chart.dataset.chart, error);
    }
  }
  root.dataset.drawn = "all";
}

drawAll();
