// Requests to the server, repeated until it responds.

import { isEnding } from "./state.js";
import { isWaiting, tellWait } from "./messages.js";

const SLOW = 1500; // milliseconds after which the page says that it waits
const LIMIT = 15000; // milliseconds after which a request is sent again; the server counts an answer sent twice once
const RETRY = 1000; // milliseconds between attempts to reach the server
export const UPLOAD_LIMIT = 300000; // milliseconds, for a mask ...
export const END_LIMIT = 40000; // ... and for the end, which the server may keep waiting for 25 s

const WAITING = "Waiting for the server. ";
const LOST = `${WAITING}It does not respond, so your last action is not saved yet. Retrying. If the server was stopped, `
  + "run the same command again and open the address that it prints; all earlier answers are saved.";

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export class Lost extends Error {}

/** Waits for something from the server, and says so if that takes long. */
export async function patiently(promise) {
  const slow = setTimeout(() => { if (!isWaiting() && !isEnding()) tellWait(WAITING); }, SLOW);
  try {
    const found = await promise;
    if (isWaiting()) tellWait("");
    return found;
  } finally {
    clearTimeout(slow);
  }
}

/** Fetches once, within a time limit. */
export async function fetchOnce(path, options = {}, read = (response) => response.blob(), limit = LIMIT) {
  const response = await fetch(path, { ...options, credentials: "same-origin", signal: AbortSignal.timeout(limit) });
  return { status: response.status, content: await read(response) };
}

/** Fetches until the server responds in time. */
export async function reach(path, options, read, limit) {
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
export function request(path, body, limit) {
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

/** The picture at an address of the server; null if it cannot be shown. */
export async function loadPicture(address) {
  return asPicture(await reach(address));
}

export function asPicture({ status, content }) {
  return status === 200 ? createImageBitmap(content).catch(() => null) : null;
}
