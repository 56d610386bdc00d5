// Mouse, pen and fingers on the image: wheel and pinch zoom, dragging moves, or paints if a brush takes it.

import { $, page } from "./state.js";
import { look, pointAt, zoom } from "./view.js";

const pointers = new Map(); // of the fingers and buttons that are down: id -> the last event
let brush = null; // takes a single pointer instead of moving: { begin, go, end, cancel, hover }
let painting = false; // whether the brush has the pointer

export function setBrush(value) {
  brush = value;
}

const surface = $("marks");

surface.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (page.busy || !page.shown?.question) return;
  const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : event.ctrlKey ? 0.01 : 0.0015));
  zoom(factor, brush ? pointAt(event) : undefined);
}, { passive: false });

surface.addEventListener("contextmenu", (event) => { if (brush) event.preventDefault(); }); // its button moves

surface.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "mouse" && event.button && !brush) return;
  event.preventDefault();
  pointers.set(event.pointerId, event);
  surface.setPointerCapture(event.pointerId);
  if (pointers.size > 1) {
    if (painting) brush.cancel(); // a second finger: it was the beginning of a pinch
    painting = false;
  } else if (brush && !event.button && !page.busy) {
    painting = true;
    brush.begin(pointAt(event), event);
  }
  surface.classList.toggle("dragged", !painting);
});

surface.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) {
    brush?.hover(pointAt(event));
    return;
  }
  if (!page.shown?.question) return;
  if (painting) {
    for (const each of event.getCoalescedEvents?.() ?? [event]) brush.go(pointAt(each));
  } else if (pointers.size === 2) {
    pinch(before, event);
  } else {
    look(before.clientX - event.clientX, before.clientY - event.clientY);
  }
  pointers.set(event.pointerId, event);
});

/** Two fingers: their distance zooms, their middle moves. */
function pinch(before, after) {
  const [other] = [...pointers.values()].filter((each) => each.pointerId !== after.pointerId);
  const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  const middle = (one) => ({
    clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2,
  });
  look((before.clientX - after.clientX) / 2, (before.clientY - after.clientY) / 2);
  zoom(apart(after) / Math.max(apart(before), 1), pointAt(middle(after)));
}

for (const kind of ["pointerup", "pointercancel"]) {
  surface.addEventListener(kind, (event) => {
    pointers.delete(event.pointerId);
    surface.classList.remove("dragged");
    if (!painting) return;
    painting = false;
    if (kind === "pointerup") brush.end(pointAt(event));
    else brush.cancel();
  });
}

surface.addEventListener("pointerleave", () => brush?.hover(null));
