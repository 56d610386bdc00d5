// What all parts of the page share.

export const $ = (id) => document.getElementById(id);
export const VOID = -1; // among the numbers of classes

export const page = {
  session: null, // sent by the server at the start
  annotator: "",
  shown: null, // the current situation: question, revision, answer, pins, ahead, progress
  picture: null, // the image of the question
  chosen: new Set(), // class numbers toggled; VOID for void
  busy: true, // keys do nothing while an answer is being sent
};

/** This open page, for the server. */
export const CLIENT = sessionStorage.client ??= [...crypto.getRandomValues(new Uint8Array(16))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function setBusy(value) {
  page.busy = value;
  document.body.ariaBusy = String(value);
  if (value || !page.shown?.question) delete document.body.dataset.query;
  else document.body.dataset.query = page.shown.question.query;
}

export const isEnding = () => ["complete", "ending"].includes(document.body.dataset.state);

export function element(kind, className, text = "") {
  const made = document.createElement(kind);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

/** An answer in words. */
export function nameOf({ classes = [], void: none, skip, mask: digest }) {
  if (skip) return "don’t know";
  if (digest) return "a mask";
  return [...classes.map((label) => page.session.classes[label].name), ...(none ? ["void"] : [])].join(", ");
}

export function colourOf(label) {
  const colour = page.session.classes[label]?.colour;
  return colour ? `rgb(${colour.join(",")})` : "";
}
