// The image: what part of it is visible, its original pixels, and what is drawn over it.

import { $, colourOf, page } from "./state.js";
import { asPicture, fetchOnce, loadPicture, patiently } from "./requests.js";

const MOST_SCALE = 40; // screen pixels per pixel of the image ...
const MOST_SCALE_OF_ORIGINAL = 8; // ... or of the original file, if that allows more
const CONTEXT = 0.4; // share of the image's shorter side that is visible around a pixel ...
const FEWEST_PIXELS = 96; // ... and the smallest number of pixels
const REGION_MARGIN = 2.4; // size of the visible part, in sizes of the region's box
const MARGIN = 0.25; // share of the view that may lie beyond the image, so that queries near its border stay centred
const VEIL = 80; // opacity of the area outside the region, of 255
const SMOOTH = 12; // above this scale pixels are drawn as squares
const KEPT_IMAGES = 4;
const KEPT_TILES = 80;
const TILE = 512; // side of a tile of an original, in pixels
const MOST_LEVEL = 8; // of tiles: each level has half the sides of the one before
const PIN = 5; // radius of an earlier answer, in pixels of the screen

const view = { x: 0, y: 0, zoom: 1, fit: 1, low: 1 }; // image point in the middle; the scale is zoom * fit
const view2d = $("view").getContext("2d");
const marks2d = $("marks").getContext("2d");
const overview2d = $("overview").getContext("2d");
const pictures = new Map(); // image -> promise of its picture, the latest last
const tiles = new Map(); // address -> picture of a part of an original, or null until it is there, the latest last

let marks = null; // the region's outline and the veil over the rest
let hidden = false; // whether the marks are hidden
let drawing = false;
let layer = null; // what is painted: { picture, draw(context, toScreen, scale) }
let pinned = true; // whether earlier answers are shown

export function setLayer(value) {
  layer = value;
}

export function showPins(value) {
  pinned = value;
  draw();
}

// --- pictures ---------------------------------------------------------------------------------------------------------

/** The picture of an image; null if it cannot be shown. */
export async function fetchPicture(image, query) {
  const known = await patiently(pictures.get(image));
  keepPicture(image, known ? Promise.resolve(known) : loadPicture(`image/${query}`));
  return pictures.get(image);
}

/** The picture of an image if it is there already. */
export function loadedPicture(image) {
  return Promise.race([pictures.get(image), Promise.resolve(null)]);
}

/** Loads the picture of an image in advance: once and silently, because nobody waits for it yet. */
export function loadAhead({ image, query }) {
  keepPicture(image, pictures.get(image) ?? fetchOnce(`image/${query}`).then(asPicture).catch(() => null));
}

export function forgetPicture(image) {
  pictures.delete(image);
}

function keepPicture(image, loading) {
  pictures.delete(image);
  pictures.set(image, loading);
  for (const old of [...pictures.keys()].slice(0, -KEPT_IMAGES)) pictures.delete(old);
}

/** A part of the original file; null while it is on its way, or if there is none. */
function tile(address) {
  if (tiles.has(address)) return tiles.get(address);
  tiles.set(address, null);
  for (const old of [...tiles.keys()].slice(0, -KEPT_TILES)) tiles.delete(old);
  fetchOnce(address).then(asPicture).then((picture) => {
    if (tiles.has(address)) tiles.set(address, picture);
    if (picture) draw();
  }).catch(() => tiles.delete(address));
  return null;
}

// --- the region -------------------------------------------------------------------------------------------------------

/** Looks up the marks of the question that is shown. */
export function markQuestion() {
  marks = page.shown.question.runs ? outline(page.shown.question) : null;
}

/** The region's border as a path, and a veil over everything else, both on the grid of the regions. */
function outline({ runs, grid: [height, width] }) {
  const inside = new Uint8Array(height * width);
  for (const [start, length] of runs) inside.fill(1, start, start + length);
  const path = new Path2D();
  const is = (y, x) => y >= 0 && y < height && x >= 0 && x < width && inside[y * width + x];
  for (const [start, length] of runs) {
    for (let index = start; index < start + length; index += 1) {
      const y = Math.floor(index / width);
      const x = index % width;
      if (!is(y - 1, x)) { path.moveTo(x, y); path.lineTo(x + 1, y); }
      if (!is(y + 1, x)) { path.moveTo(x, y + 1); path.lineTo(x + 1, y + 1); }
      if (!is(y, x - 1)) { path.moveTo(x, y); path.lineTo(x, y + 1); }
      if (!is(y, x + 1)) { path.moveTo(x + 1, y); path.lineTo(x + 1, y + 1); }
    }
  }
  const veil = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  inside.forEach((value, index) => { pixels.data[4 * index + 3] = value ? 0 : VEIL; });
  veil.getContext("2d").putImageData(pixels, 0, 0);
  return { path, veil };
}

// --- what part is visible ---------------------------------------------------------------------------------------------

/** The middle of the query in the image, and the height and width to show around it. */
function surroundings() {
  const { pixel, box, size: [height, width], grid } = page.shown.question;
  const shorter = Math.min(height, width);
  const least = Math.min(Math.max(CONTEXT * shorter, FEWEST_PIXELS), shorter);
  if (pixel) return { y: pixel[0] + 0.5, x: pixel[1] + 0.5, height: least, width: least };
  if (!box) return { y: height / 2, x: width / 2, height: 1.04 * height, width: 1.04 * width };
  const [tall, wide] = [height / grid[0], width / grid[1]];
  return {
    y: ((box[0] + box[2] + 1) / 2) * tall,
    x: ((box[1] + box[3] + 1) / 2) * wide,
    height: Math.max(REGION_MARGIN * (box[2] + 1 - box[0]) * tall, least),
    width: Math.max(REGION_MARGIN * (box[3] + 1 - box[1]) * wide, least),
  };
}

/** Centres the query; keeps the zoom that the user chose, unless ``anew``. */
export function lookAtQuestion(anew = false) {
  const { clientWidth, clientHeight } = $("view");
  const [height, width] = page.shown.question.size;
  const around = surroundings();
  const whole = Math.min(clientWidth / width, clientHeight / height) * 0.96;
  if (anew) view.zoom = 1;
  view.low = Math.min(whole, 1);
  view.fit = Math.max(Math.min(clientWidth / around.width, clientHeight / around.height), whole);
  view.zoom = withinZoom(view.zoom);
  view.y = within(around.y, height, clientHeight);
  view.x = within(around.x, width, clientWidth);
}

/** Middle of the view along a side of the image, to show ``place`` with little area beyond the border. */
function within(place, side, pixels) {
  const least = ((0.5 - MARGIN) * pixels) / scale();
  return least > side / 2 ? side / 2 : Math.min(Math.max(place, least), side - least);
}

const scale = () => view.fit * view.zoom;

function withinZoom(zoom) {
  const { original, size } = page.shown.question;
  const most = Math.max(MOST_SCALE, original ? (MOST_SCALE_OF_ORIGINAL * original[0]) / size[0] : 0);
  return Math.min(Math.max(zoom, view.low / view.fit), most / view.fit);
}

/** Zooms around a point of the image, which keeps its position on the screen: that of the query if none is given. */
export function zoom(factor, { x, y } = surroundings()) {
  const before = scale();
  view.zoom = withinZoom(view.zoom * factor);
  const ratio = before / scale();
  view.x = x - (x - view.x) * ratio;
  view.y = y - (y - view.y) * ratio;
  draw();
}

/** Moves the view by screen pixels; the query does not change. */
export function look(right, down) {
  const [height, width] = page.shown.question.size;
  view.x = Math.min(Math.max(view.x + right / scale(), 0), width);
  view.y = Math.min(Math.max(view.y + down / scale(), 0), height);
  draw();
}

/** The point of the image at a place on the screen. */
export function pointAt({ clientX, clientY }) {
  const { left, top, width, height } = $("marks").getBoundingClientRect();
  return { x: view.x + (clientX - left - width / 2) / scale(), y: view.y + (clientY - top - height / 2) / scale() };
}

/** Screen pixels per pixel of the image. */
export const currentScale = () => scale();

export function hideMarks(value) {
  if (hidden === value) return;
  hidden = value;
  drawMarks();
}

// --- drawing ----------------------------------------------------------------------------------------------------------

export function draw() {
  if (drawing || !page.picture || !page.shown?.question) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (!page.shown?.question || !page.picture) return;
    drawImage();
    drawMarks();
    drawOverview();
  });
}

export function clear() {
  for (const [name, context] of [["view", view2d], ["marks", marks2d]]) {
    context.clearRect(0, 0, $(name).width, $(name).height);
  }
  $("overview").hidden = true;
}

/** Sizes a canvas in device pixels, so that drawing continues in those of the page. */
function fitted(canvas, context, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
}

/** White inside black, visible on any background. */
function doubleStroke(context, path, white = 2) {
  context.lineCap = "square";
  for (const [colour, width] of [["#000", white + 3], ["#fff", white]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke(path);
  }
}

/** Where the image begins on the screen, and the size of the view. */
function frame() {
  const { clientWidth: width, clientHeight: height } = $("view");
  return { width, height, left: width / 2 - view.x * scale(), top: height / 2 - view.y * scale() };
}

function drawImage() {
  const { size } = page.shown.question;
  const { width, height, left, top } = frame();
  const by = scale();
  fitted($("view"), view2d, width, height);
  view2d.imageSmoothingEnabled = by < SMOOTH;
  view2d.imageSmoothingQuality = "high";
  view2d.drawImage(page.picture, left, top, size[1] * by, size[0] * by);
  drawOriginal(frame(), by);
}

/** The visible part of the original file, as far as its tiles are there, if it shows more than the picture. */
function drawOriginal({ left, top, width, height }, by) {
  const { original, size, query } = page.shown.question;
  const device = by * (window.devicePixelRatio || 1);
  if (!original || device <= 1) return;
  const [tall, wide] = [original[0] / size[0], original[1] / size[1]]; // pixels of the original per one of the image
  const level = Math.min(Math.max(Math.floor(Math.log2(Math.min(tall, wide) / device)), 0), MOST_LEVEL);
  const side = TILE * 2 ** level;
  const places = (from, length, ratio, all) => {
    const first = Math.max(Math.floor(((-from / by) * ratio) / side), 0);
    const last = Math.min(Math.ceil((((length - from) / by) * ratio) / side), Math.ceil(all / side));
    return Array.from({ length: Math.max(last - first, 0) }, (_, place) => first + place);
  };
  view2d.imageSmoothingEnabled = by / Math.min(tall, wide) < SMOOTH / 2;
  for (const row of places(top, height, tall, original[0])) {
    for (const column of places(left, width, wide, original[1])) {
      const part = tile(`tile/${query}/${level}/${row}/${column}`);
      if (!part) continue;
      const [y, x] = [row * side, column * side];
      const [below, right] = [Math.min(y + side, original[0]), Math.min(x + side, original[1])];
      view2d.drawImage(part, left + (x / wide) * by, top + (y / tall) * by,
        ((right - x) / wide) * by, ((below - y) / tall) * by);
    }
  }
}

export function drawMarks() {
  if (!page.shown?.question) return;
  const { size, grid, pixel } = page.shown.question;
  const { width, height, left, top } = frame();
  const by = scale();
  fitted($("marks"), marks2d, width, height);
  if (hidden) return;
  marks2d.imageSmoothingEnabled = false;
  if (layer?.picture) marks2d.drawImage(layer.picture, left, top, size[1] * by, size[0] * by);
  if (marks) {
    marks2d.drawImage(marks.veil, left, top, size[1] * by, size[0] * by);
    const placed = new Path2D();
    placed.addPath(marks.path, new DOMMatrix([(by * size[1]) / grid[1], 0, 0, (by * size[0]) / grid[0], left, top]));
    doubleStroke(marks2d, placed);
  }
  if (pinned) drawPins(left, top, by);
  if (pixel) doubleStroke(marks2d, ring(left + (pixel[1] + 0.5) * by, top + (pixel[0] + 0.5) * by, by));
  layer?.draw(marks2d, ({ x, y }) => ({ x: left + x * by, y: top + y * by }), by, doubleStroke);
}

/** Earlier answers of this person in this image: a dot in the colour of the class, crossed out without a class. */
function drawPins(left, top, by) {
  for (const [y, x, label] of page.shown.pins) {
    const [right, down] = [left + x * by, top + y * by];
    const dot = new Path2D();
    dot.arc(right, down, PIN, 0, 2 * Math.PI);
    doubleStroke(marks2d, dot, 1.5);
    marks2d.fillStyle = colourOf(label) || "#1b1c1f";
    marks2d.fill(dot);
    if (label >= 0) continue;
    const cross = new Path2D();
    cross.moveTo(right - 3, down - 3);
    cross.lineTo(right + 3, down + 3);
    marks2d.strokeStyle = "#fff";
    marks2d.lineWidth = 1.5;
    marks2d.stroke(cross);
  }
}

/** A ring with four ticks that leaves the pixel uncovered, and a frame around the pixel if it is large enough. */
function ring(x, y, side) {
  const path = new Path2D();
  const radius = Math.max(15, side * 1.3 + 6);
  path.arc(x, y, radius, 0, 2 * Math.PI);
  for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    path.moveTo(x + right * (radius + 4), y + down * (radius + 4));
    path.lineTo(x + right * (radius + 14), y + down * (radius + 14));
  }
  if (side >= 9) path.rect(x - side / 2 - 2.5, y - side / 2 - 2.5, side + 5, side + 5);
  return path;
}

/** The whole image in a corner, with the visible part framed; hidden if all of it is visible. */
function drawOverview() {
  const canvas = $("overview");
  const { width, height } = frame();
  const { size, pixel, box } = page.shown.question;
  const by = scale();
  const all = size[1] * by <= width && size[0] * by <= height;
  canvas.hidden = all || (!pixel && !box && !layer);
  if (canvas.hidden) return;
  const small = Math.min((0.26 * width) / size[1], (0.26 * height) / size[0]);
  const [wide, tall] = [size[1] * small, size[0] * small];
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${tall}px`;
  fitted(canvas, overview2d, wide, tall);
  overview2d.imageSmoothingQuality = "high";
  overview2d.drawImage(page.picture, 0, 0, wide, tall);
  const visible = new Path2D();
  visible.rect((view.x - width / 2 / by) * small, (view.y - height / 2 / by) * small,
    (width / by) * small, (height / by) * small);
  doubleStroke(overview2d, visible, 1);
  if (!pixel && !box) return;
  const { x, y } = surroundings();
  const spot = new Path2D();
  spot.arc(x * small, y * small, 4, 0, 2 * Math.PI);
  doubleStroke(overview2d, spot, 1.5);
}
