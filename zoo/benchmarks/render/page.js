"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const form = document.getElementById("filters");
const collator = new Intl.Collator("en", { numeric: true });

// Raw number or text of a cell; cells without one come last in either direction.
function key(cell) {
  const raw = cell.dataset.value;
  if (raw === undefined) return null;
  return cell.classList.contains("number") ? Number(raw) : raw;
}

function sort(head) {
  const row = head.parentElement, index = [...row.children].indexOf(head);
  const down = head.getAttribute("aria-sort") === "ascending";
  all("th", row).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = head.closest("table").tBodies[0], sign = down ? -1 : 1;
  const rows = [...body.rows].map((line) => [key(line.cells[index]), line]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
  });
  body.append(...rows.map(([, line]) => line));
}

function choices() {
  const found = {};
  for (const field of all("input, select", form)) found[field.name] = field.type === "checkbox" ? field.checked : field.value;
  return found;
}

function shownCell(cell, wanted) {
  return !(wanted.bits && cell.dataset.bits && cell.dataset.bits !== wanted.bits);
}

function shownRow(row, wanted, words) {
  const text = row.textContent.toLowerCase();
  if (!words.every((word) => text.includes(word))) return false;
  const cells = [...row.cells].filter((cell) => shownCell(cell, wanted));
  if (wanted.bits && all("[data-bits]", row).length &&
      !cells.some((cell) => cell.dataset.bits && cell.dataset.value !== undefined)) return false;
  if (wanted.kind && !cells.some((cell) => cell.dataset.kind === wanted.kind)) return false;
  return !(wanted.measured && !cells.some((cell) => cell.classList.contains("measured")));
}

function filter() {
  const wanted = choices(), words = (wanted.words || "").toLowerCase().split(/\s+/).filter(Boolean);
  const active = words.length || Object.values(wanted).some((value) => value && value !== "");
  let count = 0;
  for (const section of all("main section")) {
    const place = (!wanted.dataset || section.dataset.dataset === wanted.dataset) &&
      (!wanted.variant || section.dataset.variant === wanted.variant);
    let rows = 0;
    for (const cell of all("[data-bits]", section)) cell.hidden = !shownCell(cell, wanted);
    for (const row of all("tbody tr", section)) {
      row.hidden = !(place && shownRow(row, wanted, words));
      rows += !row.hidden;
    }
    section.hidden = rows === 0 && Boolean(active);
    count += rows;
  }
  for (const article of all("main article")) {
    const empty = active && all("section", article).every((section) => section.hidden);
    article.hidden = Boolean(empty);
    const link = document.querySelector(`nav a[href="#${article.id}"]`);
    if (link) link.hidden = Boolean(empty);
  }
  document.getElementById("count").textContent = `${count} rows`;
  document.getElementById("nothing").hidden = count > 0;
  const kept = Object.entries(wanted).filter(([, value]) => value);
  const query = kept.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  if (location.protocol !== "about:") history.replaceState(null, "", `${location.pathname}${query ? "?" + query : ""}${location.hash}`);
}

function restore() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements[name];
    if (field) field.type === "checkbox" ? (field.checked = value === "true") : (field.value = value);
  }
}

function say(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { toast.hidden = true; }, 5000);
}

function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}

function theme(wanted) {
  if (wanted) document.documentElement.dataset.theme = wanted;
  try { wanted ? localStorage.setItem("theme", wanted) : theme(localStorage.getItem("theme") || ""); } catch { /* a file without storage */ }
}

all("th button").forEach((button) => button.addEventListener("click", () => sort(button.parentElement)));
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
window.addEventListener("hashchange", openTarget);
document.addEventListener("click", (event) => {
  const told = event.target.closest("td.empty[title], sup[title], svg circle");
  if (told) say(told.getAttribute("title") || told.textContent.trim());
});
document.getElementById("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme === "dark" ||
    (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  theme(dark ? "light" : "dark");
});
theme();
restore();
filter();
openTarget();
