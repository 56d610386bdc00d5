// Keys: which key a press stands for, whatever the layout of the keyboard, and what it does.

import { page } from "./state.js";
import { forgetTyped, hasTyped, nextTyped, notice, typeAhead } from "./messages.js";

const BOUNCE = 200; // milliseconds in which a second press of the same key is not typed ahead

const listed = new Map(); // key of a class or command -> what it does
const fixed = new Map(); // keys with the same meaning on every page, unless a class or command has the key
const moving = new Set(); // those of them that may be held down, and do not answer

export function setKey(key, does) {
  listed.set(key, does);
}

export function setFixed(key, does, { moves = false } = {}) {
  fixed.set(key, does);
  if (moves) moving.add(key);
}

const actionOf = (key) => listed.get(key) ?? fixed.get(key);

export function press(key) {
  actionOf(key)();
}

/** The character that a key of a US keyboard at the same place has, for layouts without Latin letters or digits. */
function physical(code, shift) {
  const [, digit] = /^Digit(\d)$/.exec(code) ?? [];
  if (digit) return shift ? "" : digit;
  const [, letter] = /^Key([A-Z])$/.exec(code) ?? [];
  if (letter) return shift ? letter : letter.toLowerCase();
  return shift ? "" : { Slash: "/", Minus: "-", Equal: "=", BracketLeft: "[", BracketRight: "]" }[code] ?? "";
}

/** The key that a press stands for: as written on it, else by its place; Caps Lock makes no difference. */
export function keyOf(event) {
  const isText = event.key.length === 1;
  const hasPlace = isText || ["Process", "Unidentified"].includes(event.key); // an input method took the character
  if (!hasPlace) return event.key;
  let written = isText ? event.key : "";
  if (written && event.getModifierState("CapsLock")) {
    written = event.shiftKey ? written.toUpperCase() : written.toLowerCase();
  }
  const isLetter = /^Key/.test(event.code);
  const place = isLetter && /^[!-~]$/.test(written) ? "" : physical(event.code, event.shiftKey);
  for (const key of [written, place]) if (listed.has(key)) return key;
  for (const key of [written, place]) if (fixed.has(key)) return key;
  const other = written === written.toLowerCase() ? written.toUpperCase() : written.toLowerCase();
  return listed.has(other) ? other : written;
}

/** Whether a key has an effect now: all have while a query is shown, few when all queries are answered. */
export function mayAct(key) {
  if (page.busy) return false;
  const { later, undo } = page.session.keys;
  if (document.body.dataset.state === "open") return page.picture !== null || [later, undo].includes(key);
  return document.body.dataset.state === "complete" && [undo, "Enter"].includes(key);
}

/** Presses the keys that were typed ahead, up to the next answer, at the query that is on the screen now. */
export function typeNext() {
  for (let key = nextTyped(mayAct); key !== undefined; key = nextTyped(mayAct)) press(key);
}

/** Whether a key pressed now is for the queries after the one on the screen. */
function isAhead(key) {
  const open = page.busy && page.picture !== null && page.shown?.question && document.body.dataset.state === "open";
  return open && !moving.has(key) && !page.session.painting; // a mask is looked at before it is used
}

const isShortcut = (event) =>
  (event.ctrlKey || event.altKey || event.metaKey) && !event.getModifierState("AltGraph");

/** Whether a press is text in a field or presses the button that has the keyboard focus. */
function isForElement({ target, key }) {
  if (target instanceof HTMLInputElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLButtonElement && ["Enter", " "].includes(key);
}

let last = { key: "", at: 0 }; // the last key struck

/** Listens to the keyboard; ``hide`` is called with whether Space is down, ``shortcut`` with Ctrl and a key. */
export function listen(hide, shortcut) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]:modal")) return;
    if (isShortcut(event)) {
      if (!page.busy && shortcut(event)) event.preventDefault();
      return;
    }
    if (isForElement(event)) return;
    if (event.key === " ") {
      event.preventDefault();
      if (!event.repeat) hide(true);
      return;
    }
    if (event.key === "Escape" && hasTyped()) {
      notice(forgetTyped().trim());
      return;
    }
    const key = keyOf(event);
    if (!actionOf(key)) return;
    event.preventDefault();
    if (event.repeat && !moving.has(key)) return; // holding a key down is one answer, not many
    const bounced = key === last.key && event.timeStamp - last.at < BOUNCE;
    last = { key, at: event.timeStamp };
    if (mayAct(key)) {
      notice("");
      press(key);
    } else if (isAhead(key) && !bounced) typeAhead(key);
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") hide(false); });
  window.addEventListener("blur", () => hide(false));
}

/** Gives the keyboard focus back to the page after a button or slider was used. */
export function freeFocus() {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
}

for (const slider of document.querySelectorAll("input[type=range]")) slider.addEventListener("change", freeFocus);
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("close", freeFocus);
}
