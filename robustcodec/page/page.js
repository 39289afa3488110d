"use strict";
// The page: views, links that restore every choice, tables, plots, the detail of an entry. Text from data goes into the
// document as text alone (textContent, or what the server escaped).

const root = document.documentElement;
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const read = (node) => JSON.parse(node.textContent);
const number = (value, digits) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// --- what is chosen, in the address

const articles = new Map(all("article.view").map((node) => [node.dataset.view, node]));
const choices = new Map([...articles.keys()].map((name) => [name, new URLSearchParams()]));
const linked = new URLSearchParams(location.hash.slice(1));
const KEYS = "view board entry section q sort filters columns cards rd heat security drift on shot sample a b mode gain at zoom frame".split(" ");
let active = articles.keys().next().value;
let writing;

// What the link asks for and the page has no more is left out, the opening view or board is there instead, and the
// reader is told.
function settle() {
  const lost = [];
  const keep = (key, there) => {
    if (!linked.has(key) || there(linked.get(key))) return true;
    lost.push(`${key} ${linked.get(key)}`.trim());
    linked.delete(key);
    return false;
  };
  for (const key of new Set(linked.keys())) keep(key, () => KEYS.includes(key));
  if (!keep("view", (name) => articles.has(name))) [...linked.keys()].forEach((key) => linked.delete(key)); // of that view
  active = linked.get("view") ?? active;
  const article = articles.get(active);
  keep("board", (name) => all("select.board option", article).some((option) => option.value === name));
  keep("entry", (name) => Object.hasOwn(entries(article), name));
  keep("section", (name) => all(".part", article).some((part) => part.dataset.part === name));
  choices.set(active, linked);
  if (!lost.length) return;
  const notice = find("#notice");
  notice.hidden = false;
  notice.textContent = `The link asks for what is not on this page (${lost.join(", ")}); this is ${find("h2", article).textContent}.`;
}

const entries = (article) => (article.entries ??= read(find("script.entries", article)));

function address(changes = {}) {
  const chosen = new URLSearchParams(choices.get(active));
  chosen.set("view", active);
  for (const [key, value] of Object.entries(changes)) chosen.set(key, value);
  return `#${chosen}`;
}

function write() {
  clearTimeout(writing);
  if (location.hash !== address()) history.replaceState(null, "", address());
}

function choose(view, key, value, usual = "") {
  const chosen = choices.get(view);
  if (String(value) === String(usual)) chosen.delete(key);
  else chosen.set(key, value);
  clearTimeout(writing);
  writing = setTimeout(write, 100);
}

const chosen = (view, key, usual = "") => choices.get(view).get(key) ?? usual;

function say(text) {
  find("#said").textContent = text;
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    const area = make("textarea"); // a page from disk may have no clipboard
    area.value = text;
    (find("dialog[open]") ?? document.body).append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "Cannot copy here";
    area.remove();
    button.focus();
  }
  say(button.textContent);
  setTimeout(() => (button.textContent = before), 1500);
}

// --- light and dark

const wantsDark = matchMedia("(prefers-color-scheme: dark)");

function paint(dark) {
  root.classList.toggle("dark", dark);
  root.classList.toggle("light", !dark);
  const toggle = find("#theme");
  toggle.setAttribute("aria-pressed", dark);
  toggle.textContent = dark ? "Light" : "Dark";
  toggle.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
  all(".canvas.js-plotly-plot").forEach((canvas) => Plotly.relayout(canvas, { template: template() }));
}

function template() {
  const style = getComputedStyle(document.body);
  const line = getComputedStyle(find("header.top")).borderBottomColor;
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const paper = "rgba(0,0,0,0)";
  const font = { family: style.fontFamily, size: 12, color: style.color };
  const hoverlabel = { font: { family: style.fontFamily } };
  const modebar = { bgcolor: paper, color: line, activecolor: style.color };
  return { layout: { font, hoverlabel, modebar, paper_bgcolor: paper, plot_bgcolor: paper, xaxis: axis, yaxis: axis } };
}

// --- start

function open(name) {
  active = name;
  for (const [key, article] of articles) article.hidden = key !== name;
  all("nav.views a").forEach((link) => link.toggleAttribute("aria-current", link.dataset.open === name));
  const article = articles.get(name);
  if (!article.started && find("table.ranking", article)) {
    article.started = true;
    const look = pictures(name, article);
    ranking(name, article);
    gallery(name, article, look);
    plots(name, article);
  }
  write();
}

async function start() {
  let painted = null;
  try {
    painted = localStorage.getItem("robustcodec-theme");
  } catch {
    painted = null; // a browser that keeps nothing for pages from disk
  }
  paint(painted ? painted === "dark" : wantsDark.matches);
  wantsDark.addEventListener("change", () => painted || paint(wantsDark.matches));
  find("#theme").addEventListener("click", () => {
    const dark = !root.classList.contains("dark");
    painted = dark ? "dark" : "light";
    try {
      localStorage.setItem("robustcodec-theme", painted);
    } catch {
      painted = dark ? "dark" : "light";
    }
    paint(dark);
  });
  find("#copy-link").addEventListener("click", (event) => (write(), copy(location.href, event.currentTarget)));
  find(".skip").addEventListener("click", (event) => (event.preventDefault(), find("#main").focus()));
  const dialog = find("#detail");
  find(".close", dialog).addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => choose(active, "entry", ""));
  for (const link of all("nav.views a")) {
    link.addEventListener("click", (event) => (event.preventDefault(), open(link.dataset.open)));
  }
  settle();
  addEventListener("hashchange", () => location.reload()); // a pasted link; our own changes do not come here
  ({ default: DataTable } = await import(address_of("#tables")));
  open(active);
  const article = articles.get(active);
  if (chosen(active, "entry")) detail(active, article, chosen(active, "entry"));
  else if (chosen(active, "section")) find(`.part[data-part="${CSS.escape(chosen(active, "section"))}"]`, article)?.scrollIntoView();
  document.body.dataset.ready = "yes";
}
