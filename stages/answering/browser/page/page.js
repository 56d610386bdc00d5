// The page of `alseg annotate`: shows a query, reads keys, and sends an answer once the one before is saved.

import { $, CLIENT, VOID, element, nameOf, page, setBusy } from "./state.js";
import { cover, forgetTyped, notice } from "./messages.js";
import { END_LIMIT, Lost, pause, request } from "./requests.js";
import { freeFocus, listen, setFixed, setKey, typeNext } from "./keys.js";
import { choice, fitLegend, markChosen, markSuggested, offerSearch, openSearch } from "./legend.js";
import {
  clear, draw, fetchPicture, forgetPicture, hideMarks, loadAhead, loadedPicture, look, lookAtQuestion, markQuestion,
  showPins, zoom,
} from "./view.js";
import { beginPainting, finishedMask, nameClassToPaint, offerTools, shortcut, takeCornerBack } from "./paint.js";
import { isReviewing, offerReview, openReview } from "./review.js";
import { rendered } from "./guide.js";
import "./pointer.js";

const POLL = 1000; // milliseconds between checks whether a query is free
const MANY_CLASSES = 15; // from which on the search for a class is listed among the commands

let seen = { since: 0, before: 0 }; // how long the query was visible
let welcomed = false; // whether the grid was opened for somebody who came to change answers

// --- from query to query ---------------------------------------------------------------------------------------------

async function start() {
  const address = new URLSearchParams(location.search);
  const { status, content } = await request("session");
  if (status !== 200) return refusal(status, content);
  page.session = content;
  rename(address.get("annotator") || sessionStorage.annotator || content.annotator || rememberedName() || newName());
  $("asked").textContent = content.asked;
  document.title = `${content.dataset}, round ${content.round}: alseg annotate`;
  listChoices();
  fitLegend();
  setBusy(false);
  return act("next", { annotator: page.annotator });
}

/** Sends a request whose response is the next query. */
async function act(path, body) {
  if (page.busy) return;
  setBusy(true);
  let status;
  let content;
  const before = page.shown;
  try {
    const sent = request(path, { client: CLIENT, ...body });
    if (path === "answer" && before.next && body.answer.query === before.question?.query && !isReviewing()) {
      await foresee(before);
    }
    ({ status, content } = await sent);
  } catch (error) {
    if (error instanceof Lost) return waitForEnd();
    throw error;
  }
  const { foreseen } = page.shown ?? {};
  if (status === 200 || (status === 409 && content.state)) {
    if (status === 409 || (foreseen && content.question?.query !== page.shown.question.query)) {
      content.message += forgetTyped();
    }
    const returns = isReviewing() && !["reopen", "undo"].includes(path);
    await show(content);
    if (returns) await openReview();
    typeNext();
  } else if (status === 410) {
    await waitForEnd();
  } else if (status === 403) {
    refusal(status, content);
  } else {
    if (foreseen) await show(before);
    notice((content.message || `The server refused this (${status}).`) + forgetTyped());
    setBusy(false);
    if (!page.shown && status === 422) askName();
  }
}

/**
 * Shows the query that most likely comes next, while the answer to the one before is being saved. Keys typed meanwhile
 * are kept until it is; the server decides what is answered next.
 */
async function foresee(before) {
  const { question, suggestion, pins } = before.next;
  const picture = await loadedPicture(question.image);
  if (!picture) return; // still on its way
  page.picture = picture;
  page.chosen = new Set();
  page.shown = { ...before, question, suggestion, pins, answer: null, foreseen: true };
  markChosen();
  markSuggested(suggestion?.label ?? null);
  markQuestion();
  tellMode(page.shown);
  $("caption").textContent = captionOf(question);
  lookAtQuestion();
  draw();
  await nextFrame();
  seen = { since: performance.now(), before: 0 };
}

const nextFrame = () => new Promise((done) => requestAnimationFrame(done));

function refusal(status, { message }) {
  cover(status === 403 ? "This address is no longer valid" : "The server failed", message);
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
  page.annotator = name;
  sessionStorage.annotator = name;
  document.cookie = `${NAME_COOKIE}=${encodeURIComponent(name)}; path=/; max-age=31536000; SameSite=Strict`;
  history.replaceState(null, "", `${location.pathname}?${new URLSearchParams({ annotator: name })}`);
  $("who").textContent = name;
}

async function show(situation) {
  const isHere = page.shown?.foreseen && page.shown.question.query === situation.question?.query;
  page.shown = situation;
  if (!page.session.painting) {
    page.chosen = new Set(situation.answer?.classes ?? []);
    if (situation.answer?.void) page.chosen.add(VOID);
  }
  tellProgress();
  const { question } = situation;
  notice(situation.message + (question ? "" : forgetTyped()));
  document.body.dataset.state = situation.state;
  markChosen();
  markSuggested(situation.suggestion?.label ?? null);
  if (!question) return situation.state === "complete" ? waitForEnd() : waitForOthers();
  cover("");
  page.picture = await fetchPicture(question.image, question.query);
  if (!page.picture) return withoutPicture(question);
  markQuestion();
  if (page.session.painting) await beginPainting();
  else tellMode(situation);
  $("caption").textContent = captionOf(question);
  if (!isHere) lookAtQuestion();
  draw();
  if (!isHere) {
    await nextFrame(); // the image is on the screen from here on
    seen = { since: performance.now(), before: 0 };
  }
  setBusy(false);
  if (situation.ahead) loadAhead(situation.ahead);
  return undefined;
}

function tellMode({ answer: earlier, suggestion }) {
  if (earlier) {
    $("mode").textContent = `Your earlier answer: ${nameOf(earlier)}. Press a key to change it, Enter to keep it.`;
  } else if (suggestion) {
    const { name } = page.session.classes[suggestion.label];
    $("mode").textContent = `The model suggests ${name} (${suggestion.percent}\u00a0%). Enter takes it.`;
  } else $("mode").textContent = "";
}

/** A query whose image cannot be shown can only be moved to the end. */
async function withoutPicture({ image, query }) {
  forgetPicture(image);
  const { content } = await request(`image/${query}`);
  clear();
  $("caption").textContent = image;
  notice(`Cannot show the image. ${content.message ?? ""} Press ${page.session.keys.later} to answer later, or reload `
    + `the page.${forgetTyped()}`);
  setBusy(false);
}

function captionOf({ image, pixel, box, size, region }) {
  if (pixel) return `${image} · y ${pixel[0]}, x ${pixel[1]}`;
  if (box) return `${image} · region ${region}`;
  return `${image} · ${size[1]} × ${size[0]}`;
}

async function waitForOthers() {
  const { progress } = page.shown;
  const left = progress.all - progress.answered;
  cover(
    "No query is free right now",
    `${left === 1 ? "One query is" : `${left} queries are`} being answered by ${progress.others.join(", ") || "others"}. `
      + "Queries they leave appear here.",
  );
  await pause(POLL);
  if (document.body.dataset.state !== "waiting" || $("review").open) return;
  setBusy(false);
  await act("next", { annotator: page.annotator });
}

/** All queries are answered, or somebody finished early: the ledger is being written. */
async function waitForEnd() {
  if (page.shown?.state === "complete") {
    cover(`All ${page.shown.progress.all} queries are answered`, whatNow());
    document.body.dataset.state = "complete";
  } else {
    document.body.dataset.state = "ending";
    cover("Answering has ended", "The ledger is being written.");
  }
  setBusy(false);
  const mine = page.shown;
  if (page.session.editing && mine?.state === "complete" && !welcomed) openReview();
  welcomed = true;
  try {
    for (;;) {
      const { status, content } = await request("end", { client: CLIENT }, END_LIMIT);
      if (page.shown !== mine) return; // an answer is being changed
      if (status !== 200 || content.state === "ended") {
        ended(`${content.message} You can close this window.`);
        return;
      }
    }
  } catch {
    if (page.shown !== mine) return;
    ended("The server has stopped. The terminal says whether the ledger is written.");
  }
}

function whatNow() {
  const { undo } = page.session.keys;
  if (page.session.editing) return "Change answers under “Answers”, then press Finish to write the ledger again.";
  const seconds = Math.round(page.shown.grace);
  if (!seconds) return "The ledger is being written.";
  return `The ledger is written in ${seconds} seconds. Press Enter to write it now, ${undo} to change the last answer, `
    + "or look at all of them under “Answers”.";
}

function ended(message) {
  document.body.dataset.state = "ended";
  if ($("review").open) $("review").close();
  cover("Answering has ended", message);
}

function answer(given) {
  const { question, revision, suggestion } = page.shown;
  const { query, image, y, x, region } = question;
  const { annotator } = page;
  const seconds = (seen.before + performance.now() - seen.since) / 1000;
  const suggested = suggestion ? { suggested: suggestion.label } : {};
  $("last").replaceChildren("Last answer: ", element("b", "", nameOf(given)));
  return act("answer", {
    annotator, revision, answer: { query, image, y, x, region, classes: [], seconds, ...suggested, ...given, annotator },
  });
}

function tellProgress() {
  const { answered, all, put_off: putOff, minutes_left: minutes, others } = page.shown.progress;
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

// --- what keys and buttons do ----------------------------------------------------------------------------------------

function listChoices() {
  const { classes, keys, sets, painting, skips, void_named: voidNamed } = page.session;
  classes.forEach(({ name, key }, label) => {
    $("classes").append(choice(key ?? "", name, () => nameClass(label), { label }));
  });
  $("commands").append(choice(keys.void, "void", sayVoid, voidNamed ? { label: VOID } : {}));
  if (skips) $("commands").append(choice(keys.skip, "don’t know", () => answer({ skip: true })));
  $("commands").append(choice(keys.later, "later", putOff), choice(keys.undo, "undo", undoLast));
  offerSearch(nameClass, sets);
  if (classes.length > MANY_CLASSES || classes.some(({ key }) => !key)) {
    $("commands").append(choice(classes.some(({ key }) => key === "/") ? "" : "/", "find a class", openSearch));
  }
  $("files").hidden = !page.session.files;
  document.body.classList.toggle("painting", painting);
  if (sets || painting) {
    $("commands").prepend(choice("Enter", painting ? "use this mask" : "use these classes", confirm));
    $("commands").firstElementChild.className = "wide";
  } else setKey("Enter", confirm);
  if (painting) offerTools();
  offerMoves();
  $("open-guide").hidden = !page.session.guide;
  if (page.session.guide) setFixed("?", showGuide);
}

function offerMoves() {
  const moves = { moves: true };
  setFixed("+", () => zoom(1.25), moves);
  setFixed("=", () => zoom(1.25), moves);
  setFixed("-", () => zoom(0.8), moves);
  setFixed("Home", () => { lookAtQuestion(true); draw(); }, moves);
  for (const [key, x, y] of [["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1]]) {
    setFixed(key, () => look(x * 60, y * 60), moves);
  }
}

function nameClass(label) {
  if (page.session.painting) return nameClassToPaint(label);
  if (!page.session.sets) return answer({ classes: [label] });
  return toggle(label);
}

function toggle(label) {
  if (!page.chosen.delete(label)) page.chosen.add(label);
  markChosen();
}

function sayVoid() {
  if (page.session.painting) return nameClassToPaint(VOID);
  return page.session.void_named ? toggle(VOID) : answer({ void: true });
}

/** Enter: sends the set or the mask, keeps an earlier answer, takes a suggestion, or writes the ledger at once. */
async function confirm() {
  const { session, shown, chosen } = page;
  if (document.body.dataset.state === "complete") return session.editing ? openReview() : finish();
  if (session.painting) {
    setBusy(true); // at once: a second Enter must not send the mask twice
    const given = await finishedMask().finally(() => setBusy(false));
    if (given === "keep") return act("next", { annotator: page.annotator });
    return given && answer(given);
  }
  if (session.sets && (chosen.size || !shown.answer)) {
    if (!chosen.size) return notice("Choose at least one class, void or “don’t know”.");
    const classes = [...chosen].filter((label) => label !== VOID).sort((one, other) => one - other);
    const given = { classes, void: chosen.has(VOID) };
    if (!shown.answer || nameOf(given) !== nameOf(shown.answer)) return answer(given);
  }
  if (shown.answer) return act("next", { annotator: page.annotator });
  return shown.suggestion ? answer({ classes: [shown.suggestion.label] }) : undefined;
}

function putOff() {
  const { annotator, shown } = page;
  return shown.answer ? act("next", { annotator }) : act("later", { annotator, query: shown.question.query });
}

function undoLast() {
  if (page.session.painting && takeCornerBack()) return undefined;
  return act("undo", { annotator: page.annotator, query: page.shown.question?.query ?? null });
}

listen(hideMarks, (event) => page.session?.painting && shortcut(event));

// --- time: only while the page is visible ----------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => {
  const now = performance.now();
  if (document.hidden) seen.before += now - seen.since;
  seen.since = now;
  hideMarks(false);
});

// --- answers before, guidelines, how the image looks -----------------------------------------------------------------

const mayReview = () => page.shown && !["ended", "ending", "loading"].includes(document.body.dataset.state);

$("open-review").addEventListener("click", () => { if (mayReview()) openReview(); });

offerReview({
  open: (query) => {
    setBusy(false);
    return act("reopen", { annotator: page.annotator, query });
  },
  close: () => {
    if (!mayReview()) return;
    setBusy(false);
    act("next", { annotator: page.annotator });
  },
});

let guided = false; // whether the guidelines were loaded

async function showGuide() {
  if ($("guide").matches(":popover-open")) return $("guide").hidePopover();
  if (!guided) {
    const { content } = await request("guide");
    $("guide-text").replaceChildren(...rendered(content.text, content.pictures));
    guided = true;
  }
  return $("guide").showPopover();
}

$("open-guide").addEventListener("click", () => { showGuide(); freeFocus(); });

const LOOKS = ["brightness", "contrast"];

function applyLook() {
  $("view").style.filter = LOOKS.map((name) => `${name}(${$(name).value}%)`).join(" ");
  sessionStorage.look = JSON.stringify(LOOKS.map((name) => $(name).value));
}

for (const [place, name] of LOOKS.entries()) {
  $(name).value = JSON.parse(sessionStorage.look ?? "[100, 100]")[place];
  $(name).addEventListener("input", applyLook);
}
applyLook();

$("open-look").addEventListener("click", freeFocus);

$("plain-look").addEventListener("click", () => {
  for (const name of LOOKS) $(name).value = 100;
  applyLook();
  freeFocus();
});

$("pins").addEventListener("change", () => { showPins($("pins").checked); freeFocus(); });

// --- name and end ----------------------------------------------------------------------------------------------------

function askName() {
  $("name").value = page.annotator;
  $("name-dialog").showModal();
  $("name").select();
}

$("who").addEventListener("click", askName);

// on submit, not on close, which comes later: a key pressed in between would be recorded under the old name
$("name-dialog").addEventListener("submit", async (event) => {
  const name = $("name").value.trim();
  if (event.submitter.value !== "ok" || !name || name === page.annotator) return;
  rename(name);
  if (page.busy && page.shown?.question) return; // an answer is being sent, and the next request uses the new name
  if (["open", "waiting", "loading"].includes(document.body.dataset.state)) {
    setBusy(false);
    await act("next", { annotator: name });
  }
});

$("finish").addEventListener("click", () => {
  if (!page.shown || ["ended", "ending"].includes(document.body.dataset.state)) return;
  const { answered, all, others } = page.shown.progress;
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

async function finish() {
  const before = document.body.dataset.state;
  setBusy(true);
  document.body.dataset.state = "ending";
  try {
    const { status, content } = await request("finish", { client: CLIENT, annotator: page.annotator }, END_LIMIT);
    if (status === 200 || status === 410) {
      page.shown = { ...page.shown, state: "ending" };
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

new ResizeObserver(() => {
  if (page.session) fitLegend();
  if (!page.shown?.question || !page.picture) return;
  lookAtQuestion();
  draw();
}).observe($("view"));

start();
