// The grid of one's own answers: a class key changes the one that is marked, Enter opens it at full size.

import { $, CLIENT, element, nameOf, page } from "./state.js";
import { request } from "./requests.js";
import { keyOf } from "./keys.js";
import { swatch } from "./legend.js";

const HELP = "Arrows choose one, a class key changes it, Enter opens it.";

let answers = []; // as they are listed
let opened = 0; // when the grid was opened, or an answer changed in it
let lastOpened = -1; // query
let reviewing = false; // whether to return to the grid after the answer that was opened from it
let actions = {}; // { open(query), close() }

export function offerReview(given) {
  actions = given;
  $("review").addEventListener("close", () => { if (!reviewing) actions.close(); });
  $("order").addEventListener("change", () => list($("order").value));
  $("tiles").addEventListener("keydown", pressInGrid);
}

export const isReviewing = () => reviewing;

/** Opens the grid; the answer that was opened from it last is marked. */
export async function openReview() {
  const { status, content } = await request("review", { client: CLIENT, annotator: page.annotator });
  if (status !== 200) return false;
  reviewing = false;
  answers = content.answers;
  opened = performance.now();
  $("review-count").textContent = answers.length
    ? `${answers.length} ${answers.length === 1 ? "answer" : "answers"}. ${HELP}` : "You have not answered anything yet.";
  if (!$("review").open) $("review").showModal();
  list($("order").value);
  const tiles = [...$("tiles").querySelectorAll("button")];
  (tiles.find((tile) => Number(tile.dataset.query) === lastOpened) ?? tiles[0] ?? $("review-close")).focus();
  return true;
}

/** Lists the answers: the last ones first, or those with the same name together. */
function list(order) {
  const sorted = order === "class"
    ? [...answers].sort((one, other) => nameOf(one.answer).localeCompare(nameOf(other.answer))) : answers;
  $("tiles").replaceChildren(...sorted.map(tileOf));
}

function tileOf(entry) {
  const item = element("li");
  const tile = element("button", "tile");
  tile.type = "button";
  tile.dataset.query = entry.query;
  const picture = element("img");
  Object.assign(picture, { src: addressOf(entry), loading: "lazy", alt: "", width: 192, height: 144 });
  tile.append(picture, captionOf(entry));
  tile.addEventListener("click", () => open(entry.query));
  item.append(tile);
  return item;
}

/** The thumbnail; of a mask it shows the mask, so its address changes with it. */
const addressOf = ({ query, answer }) => `thumbnail/${query}${answer.mask ? `?mask=${answer.mask}` : ""}`;

function captionOf({ answer, image }) {
  const caption = element("span", "caption");
  const [label] = answer.classes;
  if (label !== undefined) caption.append(swatch(label));
  const name = element("b", "", nameOf(answer));
  caption.append(name, element("span", "where", image));
  return caption;
}

function open(query) {
  [reviewing, lastOpened] = [true, query];
  $("review").close();
  actions.open(query);
}

function pressInGrid(event) {
  const tile = event.target.closest?.("button");
  if (!tile || event.ctrlKey || event.altKey || event.metaKey) return;
  const tiles = [...$("tiles").querySelectorAll("button")];
  const place = tiles.indexOf(tile);
  const columns = getComputedStyle($("tiles")).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (step) {
    event.preventDefault();
    tiles[Math.min(Math.max(place + step, 0), tiles.length - 1)].focus();
    return;
  }
  if (event.repeat) return;
  const given = answerOf(keyOf(event));
  if (given) {
    event.preventDefault();
    change(tile, given);
  }
}

/** The answer that a key stands for, where one class is asked for. */
function answerOf(key) {
  const { classes, keys, sets, painting } = page.session;
  if (sets || painting) return null;
  if (key === keys.void) return { void: true };
  if (key === keys.skip) return { skip: true };
  const label = classes.findIndex((each) => each.key === key);
  return label < 0 ? null : { classes: [label] };
}

/** Changes an answer in the grid. */
async function change(tile, given) {
  const entry = answers.find(({ query }) => query === Number(tile.dataset.query));
  const { query, image, y, x, region, revision } = entry;
  const seconds = (performance.now() - opened) / 1000;
  const { annotator } = page;
  const answer = { query, image, y, x, region, classes: [], ...given, seconds, annotator };
  const { status, content } = await request("answer", { client: CLIENT, annotator, revision, answer });
  if (status !== 200) {
    $("review-count").textContent = content.message || `The server refused this (${status}).`;
    return;
  }
  opened = performance.now();
  Object.assign(entry, { revision: revision + 1, answer: { classes: [], ...given } });
  tile.lastChild.replaceWith(captionOf(entry));
  tile.classList.add("changed");
  $("review-count").textContent = `Changed to ${nameOf(entry.answer)}.`;
}
