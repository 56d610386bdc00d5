// What the page tells, and the keys that were typed ahead, which it lists.

import { $, element, setBusy } from "./state.js";

/** Covers the image with a title and a sentence; without a title, uncovers it. */
export function cover(title, text = "") {
  $("cover").replaceChildren(...(title ? [element("h2", "", title), element("p", "", text)] : []));
  if (title) setBusy(true);
}

export function notice(text) {
  $("notice").textContent = text || "";
}

let wait = ""; // what the page says while it waits for the server
const typed = []; // keys pressed while an answer is on its way: they are for the queries after it

export function tellWait(text) {
  wait = text;
  notice(text && text + typedAhead());
}

export const isWaiting = () => wait !== "";

export function typeAhead(key) {
  typed.push(key);
  if (wait) tellWait(wait);
}

function typedAhead() {
  return typed.length ? ` Typed ahead: ${typed.join(" ")}. Press Escape to discard.` : "";
}

/** Discards what was typed ahead, because it is not clear any more which query it was for; returns a sentence. */
export function forgetTyped() {
  const sentence = typed.length ? ` These keys were not used: ${typed.join(" ")}.` : "";
  typed.length = 0;
  return sentence;
}

/** The next key that was typed ahead, which is then forgotten, if ``may`` says that it may be pressed now. */
export function nextTyped(may) {
  return typed.length && may(typed[0]) ? typed.shift() : undefined;
}

export const hasTyped = () => typed.length > 0;
