// Exact labels of an image or a region: painted here with a brush, polygons and fills, or in another tool and chosen as
// a file. The server has the mask before the answer that refers to it.

import { $, VOID, page, setBusy } from "./state.js";
import { notice } from "./messages.js";
import { fetchOnce, reach, request, UPLOAD_LIMIT } from "./requests.js";
import { freeFocus, mayAct, setFixed } from "./keys.js";
import { choice, markChosen } from "./legend.js";
import { currentScale, drawMarks, setLayer } from "./view.js";
import { setBrush } from "./pointer.js";
import { Labels, UNPAINTED, VOID_VALUE } from "./labels.js";
import { greyPng } from "./png.js";

const CLOSE = 10; // screen pixels from the first corner of a polygon at which a click closes it
const DRAFT = 1500; // milliseconds after a change before it is saved, as long as no other one follows
const SIZE_STEP = 1.3;

let labels = null; // of the question
let tool = "brush";
let size = 12; // diameter of the brush, in pixels of the image
let corners = []; // of the polygon that is being drawn, in pixels of the image
let from = null; // where the brush was last
let under = null; // where the pointer is
let clicks = 0; // strokes, corners and fills so far; NaN once a file was chosen, whose cost is not known
let spent = { seconds: 0, since: 0 }; // time of work up to the last stroke, and when that was
let stored = null; // digest of the mask that the server has of these labels
let refused = false; // whether the file that was chosen last was refused
let confirmed = ""; // the doubt that Enter was pressed about
let draft = 0; // timer

const TOOLS = { brush: "brush", polygon: "polygon", fill: "fill area", erase: "eraser" };
const HELP = {
  brush: "Paint with the brush. [ and ] change its size.",
  polygon: "Click the corners; Enter or a click on the first corner closes the polygon.",
  fill: "Click into an area of one colour to fill it.",
  erase: "Erase with the brush. [ and ] change its size.",
};

// --- set up -----------------------------------------------------------------------------------------------------------

/** Lists the tools and listens to their keys. */
export function offerTools() {
  const { keys } = page.session;
  for (const [name, text] of Object.entries(TOOLS)) {
    const item = choice(keys[name], text, () => choose(name));
    item.firstChild.dataset.tool = name;
    $("paint").append(item);
  }
  $("paint").append(choice(keys.rest, "fill the rest", fillRest));
  $("tools").hidden = false;
  setFixed("[", () => resize(1 / SIZE_STEP), { moves: true });
  setFixed("]", () => resize(SIZE_STEP), { moves: true });
  setFixed("Escape", dropCorners);
  $("size").addEventListener("input", () => setSize(Number($("size").value)));
  for (const [id, does] of [["undo-stroke", undoStroke], ["redo-stroke", redoStroke]]) {
    $(id).addEventListener("click", () => { if (mayAct("")) does(); freeFocus(); });
  }
  setBrush({ begin, go, end, cancel, hover });
  choose("brush");
  setSize(size);
  nameClassToPaint(0);
}

/** Ctrl+Z, Ctrl+Y and Ctrl+Shift+Z; returns whether it was one of them. */
export function shortcut({ key, code, shiftKey }) {
  const is = (letter) => key.toLowerCase() === letter || (!/^[!-~]$/.test(key) && code === `Key${letter.toUpperCase()}`);
  if (!labels || !(is("z") || is("y"))) return false;
  if (is("y") || shiftKey) redoStroke();
  else undoStroke();
  return true;
}

export function nameClassToPaint(label) {
  page.chosen = new Set([label]);
  markChosen();
  if (tool === "erase") choose("brush");
}

function choose(name) {
  tool = name;
  dropCorners();
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  tell();
}

function setSize(value) {
  size = Math.min(Math.max(value, 1), Number($("size").max));
  $("size").value = size;
  $("size-shown").textContent = `${Math.round(size)} px`;
  drawMarks();
}

function resize(factor) {
  const next = size * factor;
  setSize(Math.abs(next - size) < 1 ? size + Math.sign(next - size) : Math.round(next));
}

/** Starts with the labels of the question: those of the answer before, of a draft, or none. */
export async function beginPainting() {
  const { question, answer, draft: begun } = page.shown;
  const [height, width] = question.runs ? question.grid : question.size;
  let allowed = null;
  if (question.runs) {
    allowed = new Uint8Array(height * width);
    for (const [start, length] of question.runs) allowed.fill(1, start, start + length);
  }
  const colours = page.session.classes.map(({ colour }) => colour);
  labels = new Labels(height, width, allowed, colours);
  [corners, from, refused, confirmed] = [[], null, false, ""];
  [clicks, stored] = [0, null];
  const digest = answer?.mask || begun;
  if (digest) await load(question.query, digest);
  labels.done = [];
  if (digest && !answer?.mask) clicks = NaN; // what was painted before the page was loaded again was not counted
  spent = { seconds: 0, since: performance.now() };
  if (question.files) {
    const name = `${question.image.split("/").pop()}.png`;
    Object.assign($("save"), { href: `image/${question.query}`, download: name });
  }
  setLayer({ picture: labels.picture, draw: drawTool });
  if (page.chosen.size !== 1) nameClassToPaint(0);
  tell(answer?.mask ? "Your earlier answer: this mask." : begun ? "The mask as it was when the page was left." : "");
}

async function load(query, digest) {
  const { status, content } = await reach(`mask/${query}/${digest}`, {}, (response) => response.arrayBuffer());
  if (status !== 200) return;
  labels.replace(new Uint8Array(content));
  stored = digest;
}

// --- strokes ----------------------------------------------------------------------------------------------------------

/** A point of the image on the grid of the labels. */
const onGrid = ({ x, y }) => {
  const [height, width] = page.shown.question.size;
  return { x: (x * labels.width) / width, y: (y * labels.height) / height };
};

const radius = () => ((size / 2) * labels.width) / page.shown.question.size[1];

function value() {
  if (tool === "erase") return UNPAINTED;
  const [label] = page.chosen;
  return label === VOID ? VOID_VALUE : label;
}

function begin(point) {
  if (tool === "polygon") return addCorner(point);
  labels.begin();
  if (tool === "fill") labels.flood(onGrid(point), value());
  else labels.stroke(onGrid(point), onGrid(point), radius(), value());
  from = point;
  under = point;
  drawMarks();
}

function go(point) {
  under = point;
  if (from && tool !== "fill") {
    labels.stroke(onGrid(from), onGrid(point), radius(), value());
    from = point;
  }
  drawMarks();
}

function end() {
  if (!from) return;
  from = null;
  if (labels.keep()) changed(1);
  else tell();
}

function cancel() {
  if (from) labels.drop();
  from = null;
  drawMarks();
}

function hover(point) {
  under = point;
  drawMarks();
}

function addCorner(point) {
  const near = (one) => Math.hypot(one.x - point.x, one.y - point.y) * currentScale() < CLOSE;
  if (corners.length > 2 && near(corners[0])) return closePolygon();
  if (!corners.length || !near(corners.at(-1))) corners.push(point);
  else if (corners.length > 2) return closePolygon(); // a double click
  under = point;
  tell();
  return drawMarks();
}

function closePolygon() {
  const count = corners.length;
  labels.begin();
  labels.polygon(corners.map(onGrid), value());
  corners = [];
  if (labels.keep()) changed(count);
  tell();
  drawMarks();
}

function dropCorners() {
  corners = [];
  if (labels) {
    drawMarks();
    tell();
  }
}

function fillRest() {
  if (tool === "erase") choose("brush");
  labels.begin();
  labels.rest(value());
  if (labels.keep()) changed(1);
  drawMarks();
}

function undoStroke() {
  if (corners.length) corners.pop();
  else if (labels.undo()) changed(0);
  drawMarks();
}

function redoStroke() {
  if (labels.redo()) changed(0);
  drawMarks();
}

/** Takes a corner back; returns whether there was one. */
export function takeCornerBack() {
  if (!corners.length) return false;
  corners.pop();
  drawMarks();
  return true;
}

/** After each change: counts it, measures the time, and saves what is painted soon. */
function changed(count) {
  const now = performance.now();
  spent = { seconds: spent.seconds + Math.min((now - spent.since) / 1000, page.session.most_seconds), since: now };
  clicks += count;
  [stored, refused, confirmed] = [null, false, ""];
  notice("");
  tell();
  clearTimeout(draft);
  draft = setTimeout(saveDraft, DRAFT);
}

/** Saves what is painted, silently: the page that is opened next goes on with it. */
async function saveDraft() {
  const { query } = page.shown?.question ?? {};
  if (query === undefined || page.busy || stored) return;
  const file = await greyPng(labels.values, labels.height, labels.width);
  const options = { method: "POST", headers: { "Content-Type": "image/png" }, body: file };
  await fetchOnce(`mask/${query}`, options, (response) => response.text(), UPLOAD_LIMIT).catch(() => null);
}

function drawTool(context, toScreen, by, doubleStroke) {
  const path = new Path2D();
  if (corners.length) {
    [...corners, ...(under ? [under] : [])].map(toScreen).forEach(({ x, y }, place) => {
      if (place) path.lineTo(x, y);
      else path.moveTo(x, y);
    });
    for (const { x, y } of corners.map(toScreen)) path.rect(x - 2, y - 2, 4, 4);
  } else if (under && ["brush", "erase"].includes(tool)) {
    const { x, y } = toScreen(under);
    path.arc(x, y, Math.max((size / 2) * by, 1), 0, 2 * Math.PI);
  }
  doubleStroke(context, path, 1);
}

/** Tells how much is painted, and what to do. */
function tell(before = "") {
  if (!labels || !page.shown?.question) return;
  const left = labels.unpainted;
  const share = Math.round((100 * (labels.count - left)) / labels.count);
  const state = left === labels.count ? "" : `${left ? Math.min(share, 99) : 100}\u00a0% painted. `;
  const ready = before ? `${before} Press Enter to keep it. ` : left ? "" : "Press Enter to use this mask. ";
  $("mode").textContent = state + ready + HELP[tool];
  $("undo-stroke").disabled = !labels.done.length;
  $("redo-stroke").disabled = !labels.undone.length;
}

// --- the answer -------------------------------------------------------------------------------------------------------

/** What Enter asks about once before it takes the mask; empty: nothing. */
function doubts(left) {
  if (refused) return "The last file was refused. Press Enter again to use the mask that is shown.";
  const share = Math.max(Math.round((100 * left) / labels.count), 1);
  return left ? `${share}\u00a0% are unpainted and become void. Press Enter again to use the mask.` : "";
}

/** Enter: the answer fields of the mask; null: none yet; "keep": the answer before stays as it is. */
export async function finishedMask() {
  if (corners.length > 2) {
    closePolygon();
    return null;
  }
  const { question, answer } = page.shown;
  const left = labels.unpainted;
  if (left === labels.count) {
    notice(question.files ? "Paint the image, or choose a file." : "Paint the region first.");
    return null;
  }
  if (answer?.mask && answer.mask === stored && !clicks) return "keep";
  const doubt = doubts(left);
  if (doubt && doubt !== confirmed) {
    confirmed = doubt;
    notice(doubt);
    return null;
  }
  clearTimeout(draft);
  if (!stored) {
    const file = await greyPng(labels.values, labels.height, labels.width);
    if (!(await upload(question.query, file))) return null;
  }
  const seconds = spent.seconds + Math.min((performance.now() - spent.since) / 1000, page.session.most_seconds);
  return { mask: stored, clicks: Number.isNaN(clicks) ? 0 : clicks, seconds };
}

/** Sends a file; returns what the server says of it, or null if it refused it. */
async function upload(query, file) {
  setBusy(true);
  try {
    const { status, content } = await request(`mask/${query}`, file, UPLOAD_LIMIT);
    if (status === 200) {
      stored = content.mask;
      return content;
    }
    if (status === 413) notice("The file is too large for a mask. Choose another file.");
    else notice(content.message || `The server refused this (${status}).`);
    return null;
  } finally {
    setBusy(false);
  }
}

/** Takes a file as the mask and shows it; this does not answer the query yet. */
async function bring(file) {
  if (page.busy || !file || !page.shown?.question?.files) return;
  const { query } = page.shown.question;
  notice("");
  const told = await upload(query, file);
  if (!told) {
    refused = true;
    return;
  }
  setBusy(true);
  await load(query, told.mask);
  [clicks, refused, confirmed] = [NaN, false, ""];
  setBusy(false);
  tell();
  $("mode").textContent = `${told.shown}. Press Enter to use this mask, correct it, or choose another file.`;
  drawMarks();
}

$("choose").addEventListener("click", () => { if (!page.busy && page.shown?.question) $("file").click(); });

$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  await bring(file);
  $("file").value = ""; // so that the same file can be chosen again
  freeFocus();
});

for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!page.session?.files) return;
    event.preventDefault();
    if (kind === "drop") bring(event.dataTransfer.files[0]);
  });
}
