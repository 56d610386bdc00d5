// The page of `alseg annotate`: shows a query, reads keys, and moves on once the server has saved the answer.

const $ = (id) => document.getElementById(id);

const MOST_SCALE = 40; // screen pixels per pixel of the image
const CONTEXT = 0.4; // share of the image's shorter side that is visible around a pixel ...
const FEWEST_PIXELS = 96; // ... and the smallest number of pixels
const REGION_MARGIN = 2.4; // size of the visible part, in sizes of the region's box
const MARGIN = 0.25; // share of the view that may lie beyond the image, so that queries near its border stay centred
const VEIL = 80; // opacity of the area outside the region, of 255
const SMOOTH = 12; // above this scale pixels are drawn as squares
const SLOW = 1500; // milliseconds after which the page says that it waits
const LIMIT = 15000; // milliseconds after which a request is sent again; the server counts an answer sent twice once ...
const UPLOAD_LIMIT = 300000; // ... for a mask
const END_LIMIT = 40000; // ... for the end, which the server may keep waiting for 25 s
const RETRY = 1000; // milliseconds between attempts to reach the server
const BOUNCE = 200; // milliseconds in which a second press of the same key is not typed ahead
const POLL = 1000; // milliseconds between checks whether a query is free
const KEPT_IMAGES = 4;

const CLIENT = sessionStorage.client ??= [...crypto.getRandomValues(new Uint8Array(16))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");

let session; // sent by the server at the start
let annotator;
let shown = null; // the current situation: question, revision, answer, ahead, progress
let picture = null; // the image of the question
let marks = null; // the region's outline and the veil over the rest
let mask = null; // the uploaded file: its digest and its picture
let chosen = new Set(); // class numbers toggled; VOID for void
let busy = true; // keys do nothing while an answer is being sent
let hidden = false; // whether the marks are hidden
let seen = { since: 0, before: 0 }; // how long the query was visible
let view = { x: 0, y: 0, zoom: 1, fit: 1, low: 1 }; // image point in the middle; the scale is zoom * fit
let drawing = false;

const VOID = -1;
const view2d = $("view").getContext("2d");
const overview2d = $("overview").getContext("2d");
const pictures = new Map(); // image -> promise of its picture, the latest last

// --- requests to the server ------------------------------------------------------------------------------------------

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

class Lost extends Error {}

const WAITING = "Waiting for the server. ";
const LOST = `${WAITING}It does not respond, so your last action is not saved yet. Retrying. If the server was stopped, `
  + "run the same command again and open the address that it prints; all earlier answers are saved.";

let wait = ""; // what the page says while it waits for the server

function tellWait(text) {
  wait = text;
  notice(text && text + typedAhead());
}

/** Waits for something from the server, and says so if that takes long. */
async function patiently(promise) {
  const slow = setTimeout(() => { if (!wait && !isEnding()) tellWait(WAITING); }, SLOW);
  try {
    const found = await promise;
    if (wait) tellWait("");
    return found;
  } finally {
    clearTimeout(slow);
  }
}

const isEnding = () => ["complete", "ending"].includes(document.body.dataset.state);

/** Fetches once, within a time limit. */
async function fetchOnce(path, options, read, limit) {
  const response = await fetch(path, { ...options, credentials: "same-origin", signal: AbortSignal.timeout(limit) });
  return { status: response.status, content: await read(response) };
}

/** Fetches until the server responds in time. */
async function reach(path, options, read, limit) {
  for (;;) {
    try {
      return await patiently(fetchOnce(path, options, read, limit));
    } catch {
      if (isEnding()) throw new Lost();
      tellWait(LOST);
    }
    await pause(RETRY);
  }
}

/** Repeats a request until the server responds; the response is JSON or a sentence. */
function request(path, body, limit = LIMIT) {
  const isFile = body instanceof Blob;
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": isFile ? "image/png" : "application/json" },
    body: isFile ? body : JSON.stringify(body),
  };
  return reach(path, options, async (response) => {
    const text = await response.text();
    try {
      return text ? JSON.parse(text) : {};
    } catch {
      return { message: text };
    }
  }, limit);
}

/** Sends a request whose response is the next query. */
async function act(path, body) {
  if (busy) return;
  setBusy(true);
  let status;
  let content;
  try {
    ({ status, content } = await request(path, { client: CLIENT, ...body }));
  } catch (error) {
    if (error instanceof Lost) return waitForEnd();
    throw error;
  }
  if (status === 200 || (status === 409 && content.state)) {
    if (status === 409) content.message += forgetTyped();
    await show(content);
    typeNext();
  } else if (status === 410) {
    await waitForEnd();
  } else if (status === 403) {
    refusal(status, content);
  } else {
    notice((content.message || `The server refused this (${status}).`) + forgetTyped());
    setBusy(false);
    if (!shown && status === 422) askName();
  }
}

function refusal(status, { message }) {
  cover(status === 403 ? "This address is no longer valid" : "The server failed", message);
}

function setBusy(value) {
  busy = value;
  document.body.ariaBusy = String(value);
  if (value || !shown?.question) delete document.body.dataset.query;
  else document.body.dataset.query = shown.question.query;
}

// --- from query to query ---------------------------------------------------------------------------------------------

async function start() {
  const address = new URLSearchParams(location.search);
  const { status, content } = await request("session");
  if (status !== 200) return refusal(status, content);
  session = content;
  rename(address.get("annotator") || sessionStorage.annotator || session.annotator || rememberedName() || newName());
  $("asked").textContent = session.asked;
  document.title = `${session.dataset}, round ${session.round}: alseg annotate`;
  listClasses();
  fitLegend();
  setBusy(false);
  return act("next", { annotator });
}

const NAME_COOKIE = "alseg-annotator"; // shared by all ports of the host, because each server has its own port

function rememberedName() {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${NAME_COOKIE}=`));
  return found && decodeURIComponent(found.slice(NAME_COOKIE.length + 1));
}

/** A name that no other browser has, so that answers and undo are not shared. */
function newName() {
  const [number] = crypto.getRandomValues(new Uint16Array(1));
  return `person-${number.toString(16).padStart(4, "0")}`;
}

/** Keeps the name in the browser, puts it in the address and removes the token, which the browser now has as a cookie. */
function rename(name) {
  annotator = name;
  sessionStorage.annotator = name;
  document.cookie = `${NAME_COOKIE}=${encodeURIComponent(name)}; path=/; max-age=31536000; SameSite=Strict`;
  history.replaceState(null, "", `${location.pathname}?${new URLSearchParams({ annotator: name })}`);
  $("who").textContent = name;
}

async function show(situation) {
  shown = situation;
  marks = null;
  mask = null;
  chosen = new Set(situation.answer?.classes ?? []);
  if (situation.answer?.void) chosen.add(VOID);
  tellProgress();
  const { question } = situation;
  notice(situation.message + (question ? "" : forgetTyped()));
  document.body.dataset.state = situation.state;
  markChosen();
  if (!question) return situation.state === "complete" ? waitForEnd() : waitForOthers();
  cover("");
  picture = await fetchPicture(question.image, question.query);
  if (!picture) return withoutPicture(question);
  if (question.runs) marks = outline(question);
  if (session.masks) await askForMask(question, situation.answer);
  if (!session.masks) {
    $("mode").textContent = situation.answer
      ? `Your earlier answer: ${nameOf(situation.answer)}. Press a key to change it, Enter to keep it.` : "";
  }
  $("caption").textContent = captionOf(question);
  lookAtQuestion();
  draw();
  await new Promise((done) => requestAnimationFrame(done)); // the image is on the screen from here on
  seen = { since: performance.now(), before: 0 };
  setBusy(false);
  if (situation.ahead) loadAhead(situation.ahead);
  return undefined;
}

/** A query whose image cannot be shown can only be moved to the end. */
async function withoutPicture({ image, query }) {
  pictures.delete(image);
  const { content } = await request(`image/${query}`);
  view2d.clearRect(0, 0, $("view").width, $("view").height);
  $("overview").hidden = true;
  $("caption").textContent = image;
  notice(`Cannot show the image. ${content.message ?? ""} Press ${session.keys.later} to answer later, or reload the page.${forgetTyped()}`);
  setBusy(false);
}

function captionOf(question) {
  const { image, pixel, box, size } = question;
  if (pixel) return `${image} · y ${pixel[0]}, x ${pixel[1]}`;
  if (box) return `${image} · region ${question.region}`;
  return `${image} · ${size[1]} × ${size[0]}`;
}

async function waitForOthers() {
  cover(
    "No query is free right now",
    `${leftOver()} being answered by ${shown.progress.others.join(", ") || "others"}. Queries they leave appear here.`,
  );
  await pause(POLL);
  if (document.body.dataset.state !== "waiting") return;
  setBusy(false);
  await act("next", { annotator });
}

function leftOver() {
  const left = shown.progress.all - shown.progress.answered;
  return left === 1 ? "One query is" : `${left} queries are`;
}

/** All queries are answered, or somebody finished early: the ledger is being written. */
async function waitForEnd() {
  if (shown?.state === "complete") {
    const { undo } = session.keys;
    const seconds = Math.round(shown.grace);
    cover(
      `All ${shown.progress.all} queries are answered`,
      seconds ? `The ledger is written in ${seconds} seconds. Press Enter to write it now, ${undo} to change the last answer.`
        : "The ledger is being written.",
    );
    document.body.dataset.state = "complete";
  } else {
    document.body.dataset.state = "ending";
    cover("Answering has ended", "The ledger is being written.");
  }
  setBusy(false);
  const mine = shown;
  try {
    for (;;) {
      const { status, content } = await request("end", { client: CLIENT }, END_LIMIT);
      if (shown !== mine) return; // an answer is being changed
      if (status !== 200 || content.state === "ended") {
        document.body.dataset.state = "ended";
        cover("Answering has ended", `${content.message} You can close this window.`);
        return;
      }
    }
  } catch {
    if (shown !== mine) return;
    document.body.dataset.state = "ended";
    cover("Answering has ended", "The server has stopped. The terminal says whether the ledger is written.");
  }
}

function answer(given) {
  const { question, revision } = shown;
  const { query, image, y, x, region } = question;
  const seconds = (seen.before + performance.now() - seen.since) / 1000;
  $("last").replaceChildren("Last answer: ", bold(nameOf({ classes: [], ...given })));
  return act("answer", {
    annotator, revision, answer: { query, image, y, x, region, classes: [], ...given, seconds, annotator },
  });
}

function bold(text) {
  const element = document.createElement("b");
  element.textContent = text;
  return element;
}

function nameOf({ classes, void: none, skip, mask: digest }) {
  if (skip) return "don’t know";
  if (digest) return "a mask";
  return [...classes.map((label) => session.classes[label].name), ...(none ? ["void"] : [])].join(", ");
}

function tellProgress() {
  const { answered, all, put_off: putOff, minutes_left: minutes, others } = shown.progress;
  const parts = [`${answered} of ${all} answered`];
  if (minutes !== null && answered < all) {
    parts.push(minutes < 1 ? "under 1 min left" : `about ${Math.round(minutes)} min left`);
  }
  if (putOff) parts.push(`${putOff} for later`);
  if (others.length) parts.push(`with ${others.join(", ")}`);
  $("progress").textContent = parts.join(" · ");
  $("bar").setAttribute("aria-valuenow", answered);
  $("bar").setAttribute("aria-valuemax", all);
  $("bar").firstElementChild.style.width = `${(100 * answered) / all}%`;
}

// --- keys ------------------------------------------------------------------------------------------------------------

const keys = new Map(); // key -> what it does

function listClasses() {
  const { void: none, skip, later, undo } = session.keys;
  if (session.masks) {
    session.classes.forEach(({ name, colour }) => $("classes").append(shownClass(name, colour)));
  } else {
    session.classes.forEach(({ name, colour, key }, label) => {
      $("classes").append(choice(key, name, () => nameClass(label), { label, colour }));
    });
    $("commands").append(
      choice(none, "void", sayVoid, session.void_in_sets ? { label: VOID } : {}),
      choice(skip, "don’t know", () => answer({ skip: true })),
    );
  }
  $("commands").append(choice(later, "later", putOff), choice(undo, "undo", undoLast));
  $("files").hidden = !session.masks;
  document.body.classList.toggle("masks", session.masks);
  if (session.sets || session.masks) {
    $("commands").prepend(choice("Enter", session.masks ? "choose a file" : "use these classes", confirm));
    $("commands").firstElementChild.className = "wide";
  } else keys.set("Enter", confirm);
  keys.set("+", () => zoom(1.25)).set("=", () => zoom(1.25)).set("-", () => zoom(0.8));
  keys.set("Home", () => { view.zoom = 1; lookAtQuestion(); draw(); });
  for (const [key, x, y] of [["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1]]) {
    keys.set(key, () => look(x * 60, y * 60));
  }
}

/** A line of the legend for a class without a key. */
function shownClass(name, colour) {
  const [item, swatch, text] = ["li", "span", "span"].map((kind) => document.createElement(kind));
  item.className = "shown";
  swatch.className = "swatch";
  if (colour) swatch.style.backgroundColor = `rgb(${colour.join(",")})`;
  text.className = "name";
  text.textContent = name;
  item.append(swatch, text);
  return item;
}

/** A line of the legend: key and name, for a class also its colour, and a tick when it is chosen. */
function choice(key, name, does, { label, colour } = {}) {
  const button = document.createElement("button");
  const cap = document.createElement("kbd");
  const text = document.createElement("span");
  button.type = "button";
  button.className = "choice";
  button.tabIndex = -1;
  cap.textContent = key;
  if (key.length > 1) cap.className = "long";
  text.className = "name";
  text.textContent = name;
  text.title = name;
  button.append(cap);
  if (colour) {
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.backgroundColor = `rgb(${colour.join(",")})`;
    button.append(swatch);
  }
  button.append(text);
  if (label !== undefined) {
    const tick = document.createElement("span");
    tick.className = "tick";
    button.append(tick);
    button.dataset.label = label;
    button.setAttribute("aria-pressed", "false");
  }
  keys.set(key, () => { strike(button); does(); });
  button.addEventListener("mousedown", (event) => event.preventDefault()); // keeps the keyboard focus on the page
  button.addEventListener("click", () => { if (mayAct(key)) keys.get(key)(); });
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** Sets the largest layout of the classes that fits, with the commands, without scrolling. */
function fitLegend() {
  for (const layout of ["", "close", "two", "two-close"]) {
    $("classes").className = layout;
    const rows = layout.startsWith("two") ? `repeat(${Math.ceil(session.classes.length / 2)}, auto)` : "none";
    $("classes").style.gridTemplateRows = rows;
    const panel = document.querySelector("aside");
    if (panel.scrollHeight <= panel.clientHeight) return;
  }
}

/** Highlights the key that was pressed for a moment. */
function strike(button) {
  button.classList.add("struck");
  setTimeout(() => button.classList.remove("struck"), 220);
}

function nameClass(label) {
  if (!session.sets) return answer({ classes: [label] });
  return toggle(label);
}

function toggle(label) {
  if (!chosen.delete(label)) chosen.add(label);
  markChosen();
}

function sayVoid() {
  return session.void_in_sets ? toggle(VOID) : answer({ void: true });
}

function markChosen() {
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-pressed", String(chosen.has(Number(button.dataset.label))));
  }
}

/** Enter: sends the set, keeps an earlier answer, or writes the ledger at once. */
function confirm() {
  if (document.body.dataset.state === "complete") return finish();
  if (session.masks) return takeMask();
  if (session.sets && (chosen.size || !shown.answer)) {
    if (!chosen.size) return notice("Choose at least one class, void or “don’t know”.");
    const classes = [...chosen].filter((label) => label !== VOID).sort((one, other) => one - other);
    const given = { classes, void: chosen.has(VOID) };
    if (!shown.answer || nameOf(given) !== nameOf(shown.answer)) return answer(given);
  }
  return shown.answer ? act("next", { annotator }) : undefined;
}

function putOff() {
  const { query } = shown.question;
  return shown.answer ? act("next", { annotator }) : act("later", { annotator, query });
}

function undoLast() {
  return act("undo", { annotator, query: shown.question?.query ?? null });
}

/** Whether a key has an effect now: all have while a query is shown, few when all queries are answered. */
function mayAct(key) {
  if (busy) return false;
  if (document.body.dataset.state === "open") {
    return picture !== null || [session.keys.later, session.keys.undo].includes(key);
  }
  return document.body.dataset.state === "complete" && [session.keys.undo, "Enter"].includes(key);
}

/** The key as it is listed; with Caps Lock the letter of the other case. */
function listed(key) {
  if (keys.has(key) || key.length !== 1) return key;
  const other = key === key.toLowerCase() ? key.toUpperCase() : key.toLowerCase();
  return keys.has(other) ? other : key;
}

// Keys pressed while an answer is on its way are for the queries after it.
let typed = []; // these keys
let struck = { key: "", at: 0 }; // the last one

function typeAhead(key) {
  typed.push(key);
  if (wait) tellWait(wait);
}

function typedAhead() {
  return typed.length ? ` Typed ahead: ${typed.join(" ")}. Press Escape to discard.` : "";
}

/** Discards what was typed ahead, because it is not clear any more which query it was for; returns a sentence. */
function forgetTyped() {
  const sentence = typed.length ? ` These keys were not used: ${typed.join(" ")}.` : "";
  typed = [];
  return sentence;
}

/** Presses the keys that were typed ahead, up to the next answer, at the query that is on the screen now. */
function typeNext() {
  while (typed.length && mayAct(typed[0])) keys.get(typed.shift())();
}

/** Whether a key pressed now is for the queries after the one on the screen. */
function isAhead(key) {
  const open = busy && picture !== null && shown?.question && document.body.dataset.state === "open";
  const answers = !["+", "=", "-", "Home"].includes(key) && !key.startsWith("Arrow");
  return open && answers && !session.masks; // a mask is looked at before it is used
}

document.addEventListener("keydown", (event) => {
  const shortcut = (event.ctrlKey || event.altKey || event.metaKey) && !event.getModifierState("AltGraph");
  if (shortcut || event.isComposing || document.querySelector("dialog[open]")) return;
  if (event.target instanceof HTMLButtonElement && ["Enter", " "].includes(event.key)) return; // the key presses the button
  if (event.key === " ") {
    event.preventDefault();
    if (!hidden) hideMarks(true);
    return;
  }
  if (event.key === "Escape" && typed.length) return notice(forgetTyped().trim());
  const key = listed(event.key);
  if (!keys.has(key)) return;
  event.preventDefault();
  const moves = ["+", "=", "-"].includes(key) || key.startsWith("Arrow");
  if (event.repeat && !moves) return; // holding a key down is one answer, not many
  const bounced = key === struck.key && event.timeStamp - struck.at < BOUNCE;
  struck = { key, at: event.timeStamp };
  if (mayAct(key)) {
    notice("");
    keys.get(key)();
  } else if (isAhead(key) && !bounced) typeAhead(key);
});

document.addEventListener("keyup", (event) => {
  if (event.key === " ") hideMarks(false);
});

window.addEventListener("blur", () => hideMarks(false));

function hideMarks(value) {
  hidden = value;
  draw();
}

// --- masks painted in other tools -------------------------------------------------------------------------------------

const ASK_FOR_MASK = "Paint the image in another tool. The mask must be a PNG of the same size with the numbers or the "
  + "colours of the classes. Choose the file, or drop it on the image.";

async function askForMask({ image, query }, earlier) {
  const name = `${image.split("/").pop()}.png`;
  Object.assign($("save"), { href: `image/${query}`, download: name });
  if (earlier?.mask) await showMask(query, earlier.mask);
  tellOfMask(mask ? "Your earlier answer: this mask. Press Enter to keep it, or choose another file." : ASK_FOR_MASK);
}

function tellOfMask(text) {
  $("mode").textContent = text;
  document.querySelector("#commands .wide .name").textContent = mask ? "use this mask" : "choose a file";
}

/** Shows the mask over the image; this does not answer the query yet. */
async function showMask(query, digest) {
  mask = { digest, overlay: await loadPicture(`mask/${query}/${digest}`) };
}

/** Uploads a file and shows it. The mask before it is given up at once: a refused file must not leave it to Enter. */
async function bring(file) {
  if (busy || !file || !session.masks || !shown?.question) return;
  const { query } = shown.question;
  setBusy(true);
  notice("");
  mask = null;
  draw();
  try {
    const { status, content } = await request(`mask/${query}`, file, UPLOAD_LIMIT);
    if (status === 200) await showMask(query, content.mask);
    tellOfMask(status === 200 ? `${content.shown}. Press Enter to use this mask, or choose another file.` : ASK_FOR_MASK);
    if (status === 413) notice("The file is too large for a mask. Choose another file.");
    else if (status !== 200) notice(content.message || `The server refused this (${status}).`);
  } finally {
    draw();
    setBusy(false);
  }
}

function takeMask() {
  if (!mask) return $("file").click();
  if (shown.answer?.mask === mask.digest) return act("next", { annotator });
  return answer({ mask: mask.digest });
}

$("choose").addEventListener("click", () => { if (!busy && shown?.question) $("file").click(); });

$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  await bring(file);
  $("file").value = ""; // so that the same file can be chosen again
  $("choose").blur();
});

for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!session?.masks) return;
    event.preventDefault();
    if (kind === "drop") bring(event.dataTransfer.files[0]);
  });
}

// --- time: only while the page is visible ----------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => {
  const now = performance.now();
  if (document.hidden) seen.before += now - seen.since;
  seen.since = now;
  hideMarks(false);
});

// --- name and end ----------------------------------------------------------------------------------------------------

function askName() {
  $("name").value = annotator;
  $("name-dialog").showModal();
  $("name").select();
}

$("who").addEventListener("click", askName);

// on submit, not on close, which comes later: a key pressed in between would be recorded under the old name
$("name-dialog").addEventListener("submit", async (event) => {
  const name = $("name").value.trim();
  if (event.submitter.value !== "ok" || !name || name === annotator) return;
  rename(name);
  if (busy && shown?.question) return; // an answer is being sent, and the next request uses the new name
  if (["open", "waiting", "loading"].includes(document.body.dataset.state)) {
    setBusy(false);
    await act("next", { annotator });
  }
});

$("finish").addEventListener("click", () => {
  if (!shown || ["ended", "ending"].includes(document.body.dataset.state)) return;
  const { answered, all, others } = shown.progress;
  const parts = [`${answered} of ${all} queries are answered.`];
  if (answered < all) {
    parts.push("The ledger is written without the others, and a later round may query them again.");
  }
  if (others.length) parts.push(`This interrupts ${others.join(", ")}.`);
  $("finish-text").textContent = parts.join(" ");
  $("finish-dialog").showModal();
});

$("finish-dialog").addEventListener("submit", async (event) => {
  if (event.submitter.value === "ok") await finish();
});

// the keyboard focus returns to the page, not to the button that opened the dialog
for (const [dialog, button] of [["name-dialog", "who"], ["finish-dialog", "finish"]]) {
  $(dialog).addEventListener("close", () => $(button).blur());
}

async function finish() {
  const before = document.body.dataset.state;
  setBusy(true);
  document.body.dataset.state = "ending";
  try {
    const { status, content } = await request("finish", { client: CLIENT, annotator }, END_LIMIT);
    if (status === 200 || status === 410) {
      shown = { ...shown, state: "ending" };
      await waitForEnd();
      return;
    }
    document.body.dataset.state = before;
    notice(content.message);
    setBusy(false);
  } catch {
    await waitForEnd();
  }
}

// Frees the query of this page for others at once.
window.addEventListener("pagehide", () => {
  navigator.sendBeacon("leave", new Blob([JSON.stringify({ client: CLIENT })], { type: "application/json" }));
});

// --- drawing --------------------------------------------------------------------------------------------------------

function cover(title, text = "") {
  const heading = document.createElement("h2");
  const paragraph = document.createElement("p");
  heading.textContent = title;
  paragraph.textContent = text;
  $("cover").replaceChildren(...(title ? [heading, paragraph] : []));
  if (title) setBusy(true);
}

function notice(text) {
  $("notice").textContent = text || "";
}

/** The picture of an image; null if it cannot be shown. */
async function fetchPicture(image, query) {
  const known = await patiently(pictures.get(image));
  keepPicture(image, known ? Promise.resolve(known) : loadPicture(`image/${query}`));
  return pictures.get(image);
}

/** Loads the picture of an image in advance: once and silently, because nobody waits for it yet. */
function loadAhead({ image, query }) {
  const loading = pictures.get(image)
    ?? fetchOnce(`image/${query}`, {}, (response) => response.blob(), LIMIT).then(asPicture).catch(() => null);
  keepPicture(image, loading);
}

function keepPicture(image, loading) {
  pictures.delete(image);
  pictures.set(image, loading);
  for (const old of [...pictures.keys()].slice(0, -KEPT_IMAGES)) pictures.delete(old);
}

/** The picture at an address of the server; null if it cannot be shown. */
async function loadPicture(address) {
  return asPicture(await reach(address, {}, (response) => response.blob(), LIMIT));
}

function asPicture({ status, content }) {
  return status === 200 ? createImageBitmap(content).catch(() => null) : null;
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

/** The middle of the query in the image, and the height and width to show around it. */
function surroundings() {
  const { pixel, box, size: [height, width], grid } = shown.question;
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

/** Centres the query and keeps the zoom that the user chose. */
function lookAtQuestion() {
  const { clientWidth, clientHeight } = $("view");
  const [height, width] = shown.question.size;
  const around = surroundings();
  const whole = Math.min(clientWidth / width, clientHeight / height) * 0.96;
  view.low = Math.min(whole, 1);
  view.fit = Math.max(Math.min(clientWidth / around.width, clientHeight / around.height), whole);
  view.zoom = Math.min(Math.max(view.zoom, view.low / view.fit), MOST_SCALE / view.fit);
  view.y = within(around.y, height, clientHeight);
  view.x = within(around.x, width, clientWidth);
}

/** Middle of the view along a side of the image, to show ``place`` with little area beyond the border. */
function within(place, side, pixels) {
  const least = ((0.5 - MARGIN) * pixels) / scale();
  return least > side / 2 ? side / 2 : Math.min(Math.max(place, least), side - least);
}

const scale = () => view.fit * view.zoom;

/** Zooms around the query, which keeps its position on the screen. */
function zoom(factor) {
  const before = scale();
  view.zoom = Math.min(Math.max(view.zoom * factor, view.low / view.fit), MOST_SCALE / view.fit);
  const { x, y } = surroundings();
  const ratio = before / scale();
  view.x = x - (x - view.x) * ratio;
  view.y = y - (y - view.y) * ratio;
  draw();
}

/** Moves the view by screen pixels; the query does not change. */
function look(right, down) {
  const [height, width] = shown.question.size;
  view.x = Math.min(Math.max(view.x + right / scale(), 0), width);
  view.y = Math.min(Math.max(view.y + down / scale(), 0), height);
  draw();
}

$("view").addEventListener("wheel", (event) => {
  event.preventDefault();
  if (!busy) zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
}, { passive: false });

$("view").addEventListener("pointerdown", (event) => {
  if (event.button) return;
  $("view").setPointerCapture(event.pointerId);
  $("view").classList.add("dragged");
});

$("view").addEventListener("pointermove", (event) => {
  if ($("view").hasPointerCapture(event.pointerId) && shown?.question) look(-event.movementX, -event.movementY);
});

$("view").addEventListener("lostpointercapture", () => $("view").classList.remove("dragged"));

new ResizeObserver(() => {
  if (session) fitLegend();
  if (!shown?.question || !picture) return;
  lookAtQuestion();
  draw();
}).observe($("view"));

function draw() {
  if (drawing || !picture || !shown?.question) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (!shown?.question) return;
    drawView();
    drawOverview();
  });
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

function drawView() {
  const canvas = $("view");
  const { clientWidth: width, clientHeight: height } = canvas;
  const { size, grid, pixel } = shown.question;
  const by = scale();
  const left = width / 2 - view.x * by;
  const top = height / 2 - view.y * by;
  fitted(canvas, view2d, width, height);
  view2d.imageSmoothingEnabled = by < SMOOTH;
  view2d.imageSmoothingQuality = "high";
  view2d.drawImage(picture, left, top, size[1] * by, size[0] * by);
  if (hidden) return;
  if (mask?.overlay) {
    view2d.imageSmoothingEnabled = false;
    view2d.drawImage(mask.overlay, left, top, size[1] * by, size[0] * by);
  }
  if (marks) {
    view2d.imageSmoothingEnabled = false;
    view2d.drawImage(marks.veil, left, top, size[1] * by, size[0] * by);
    const placed = new Path2D();
    placed.addPath(marks.path, new DOMMatrix([(by * size[1]) / grid[1], 0, 0, (by * size[0]) / grid[0], left, top]));
    doubleStroke(view2d, placed);
  }
  if (pixel) doubleStroke(view2d, ring(left + (pixel[1] + 0.5) * by, top + (pixel[0] + 0.5) * by, by));
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
  const { clientWidth: width, clientHeight: height } = $("view");
  const { size, pixel, box } = shown.question;
  const by = scale();
  const all = size[1] * by <= width && size[0] * by <= height;
  canvas.hidden = all || (!pixel && !box);
  if (canvas.hidden) return;
  const small = Math.min((0.26 * width) / size[1], (0.26 * height) / size[0]);
  const [wide, tall] = [size[1] * small, size[0] * small];
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${tall}px`;
  fitted(canvas, overview2d, wide, tall);
  overview2d.imageSmoothingQuality = "high";
  overview2d.drawImage(picture, 0, 0, wide, tall);
  const window_ = new Path2D();
  window_.rect((view.x - width / 2 / by) * small, (view.y - height / 2 / by) * small,
    (width / by) * small, (height / by) * small);
  doubleStroke(overview2d, window_, 1);
  const { x, y } = surroundings();
  const spot = new Path2D();
  spot.arc(x * small, y * small, 4, 0, 2 * Math.PI);
  doubleStroke(overview2d, spot, 1.5);
}

start();
