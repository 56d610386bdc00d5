// The list of classes and commands with their keys, and the search for a class by its name.

import { $, VOID, colourOf, element, page } from "./state.js";
import { mayAct, setFixed, setKey } from "./keys.js";

const LAYOUTS = ["", "close", "two", "two-close"]; // from the most spacious one on

/** A line of the legend: key and name, for a class also its colour, and a tick when it is chosen. */
export function choice(key, name, does, { label } = {}) {
  const button = element("button", "choice");
  const text = element("span", "name", name);
  button.type = "button";
  button.tabIndex = -1; // its key is the shorter way
  if (key) button.append(element("kbd", key.length > 1 ? "long" : "", key));
  if (label !== undefined && label !== VOID && colourOf(label)) button.append(swatch(label));
  button.append(text);
  if (label !== undefined) {
    button.append(element("span", "tick"));
    button.dataset.label = label;
    button.setAttribute("aria-pressed", "false");
  }
  const struck = () => { strike(button); does(); };
  if (key) setKey(key, struck);
  button.addEventListener("mousedown", (event) => event.preventDefault()); // keeps the keyboard focus on the page
  button.addEventListener("click", () => { if (mayAct(key)) struck(); });
  const item = element("li");
  item.append(button);
  return item;
}

export function swatch(label) {
  const made = element("span", "swatch");
  made.style.backgroundColor = colourOf(label);
  return made;
}

/** Highlights the line whose key was pressed for a moment. */
function strike(button) {
  button.classList.add("struck");
  setTimeout(() => button.classList.remove("struck"), 220);
}

/** Sets the largest layout of the classes that fits without scrolling, or the smallest one. */
export function fitLegend() {
  const list = $("classes");
  for (const layout of LAYOUTS) {
    list.className = layout;
    const rows = layout.startsWith("two") ? `repeat(${Math.ceil(list.childElementCount / 2)}, auto)` : "none";
    list.style.gridTemplateRows = rows;
    if (list.scrollHeight <= list.clientHeight) return;
  }
}

export function markChosen() {
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-pressed", String(page.chosen.has(Number(button.dataset.label))));
  }
}

/** Marks the class that a model suggests; null: none. */
export function markSuggested(label) {
  for (const button of document.querySelectorAll("[data-label]")) {
    button.classList.toggle("suggested", label !== null && Number(button.dataset.label) === label);
  }
}

// --- the search -------------------------------------------------------------------------------------------------------

let found = []; // numbers of the classes listed
let marked = 0; // the place of the one that Enter takes
let take = () => {};
let several = false; // whether Enter takes several classes one after the other, or one and ends the search

/** Prepares the search, opened by ``/``; ``name`` is called with the number of the class that was found. */
export function offerSearch(name, ofSets) {
  [take, several] = [name, ofSets];
  setFixed("/", openSearch);
}

export function openSearch() {
  $("sought").value = "";
  search();
  $("finder").showModal();
  $("sought").focus();
}

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** How well a name fits: 0 starts with the text, 1 a word does, 2 contains it, 3 does not. */
function rank(name, text) {
  if (name.startsWith(text)) return 0;
  if (name.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(text))) return 1;
  return name.includes(text) ? 2 : 3;
}

function search() {
  const text = plain($("sought").value.trim());
  const ranks = page.session.classes.map(({ name }) => rank(plain(name), text));
  found = [...ranks.keys()].filter((label) => ranks[label] < 3).sort((one, other) => ranks[one] - ranks[other]);
  marked = 0;
  $("found").replaceChildren(...found.map((label, place) => {
    const item = element("li", "", "");
    item.id = `found-${label}`;
    item.setAttribute("role", "option");
    if (colourOf(label)) item.append(swatch(label));
    item.append(element("span", "name", page.session.classes[label].name), element("span", "tick"));
    item.dataset.taken = String(several && page.chosen.has(label));
    item.addEventListener("click", () => { marked = place; takeMarked(); });
    return item;
  }));
  markFound();
}

function markFound() {
  [...$("found").children].forEach((item, place) => {
    item.setAttribute("aria-selected", String(place === marked));
    if (place === marked) item.scrollIntoView({ block: "nearest" });
  });
  if (found.length) $("sought").setAttribute("aria-activedescendant", `found-${found[marked]}`);
  else $("sought").removeAttribute("aria-activedescendant");
}

function takeMarked() {
  const label = found[marked];
  if (label === undefined) return;
  if (several) {
    take(label);
    $("sought").value = "";
    search();
    $("sought").focus();
  } else {
    $("finder").close();
    take(label);
  }
}

$("sought").addEventListener("input", search);

$("sought").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && found.length) {
    event.preventDefault();
    marked = (marked + step + found.length) % found.length;
    markFound();
  } else if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    if (several && !$("sought").value.trim()) $("finder").close();
    else takeMarked();
  }
});

$("finder").addEventListener("click", (event) => { if (event.target === $("finder")) $("finder").close(); });
