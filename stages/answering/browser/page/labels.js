// A map of labels that is painted: one value per pixel, the picture of it, and the steps that undo and redo it.

const MOST_STEPS = 200;
const OPACITY = 150; // of the colours over the image, of 255
export const UNPAINTED = 252; // as files of answers have it
export const VOID_VALUE = 255;

export class Labels {
  /** ``allowed`` (height * width) marks the pixels that may be painted; null: all. ``colours``: those of the classes. */
  constructor(height, width, allowed, colours) {
    Object.assign(this, { height, width, allowed });
    this.values = new Uint8Array(height * width).fill(UNPAINTED);
    this.count = allowed ? allowed.reduce((sum, each) => sum + each, 0) : height * width;
    this.shades = new Uint8ClampedArray(4 * 256);
    colours.forEach((colour, label) => this.shades.set([...(colour ?? [200, 200, 200]), OPACITY], 4 * label));
    this.shades.set([255, 255, 255, OPACITY / 2], 4 * VOID_VALUE);
    this.picture = new OffscreenCanvas(width, height);
    this.context = this.picture.getContext("2d");
    [this.done, this.undone] = [[], []];
    this.before = null; // the values before the step that is being made
  }

  get unpainted() {
    let count = 0;
    for (let at = 0; at < this.values.length; at += 1) {
      if (this.values[at] === UNPAINTED && (!this.allowed || this.allowed[at])) count += 1;
    }
    return count;
  }

  /** Begins a step: what is set until `keep` is undone at once. */
  begin() {
    this.before = this.values.slice();
    this.dirty = { top: this.height, left: this.width, bottom: 0, right: 0 };
  }

  /** Sets a pixel during a step. */
  set(y, x, value) {
    const at = y * this.width + x;
    if (this.allowed && !this.allowed[at]) return;
    this.values[at] = value;
    const { dirty } = this;
    if (y < dirty.top) dirty.top = y;
    if (y >= dirty.bottom) dirty.bottom = y + 1;
    if (x < dirty.left) dirty.left = x;
    if (x >= dirty.right) dirty.right = x + 1;
  }

  /** Ends the step; returns whether it changed anything. */
  keep() {
    const { dirty, before } = this;
    this.before = null;
    if (dirty.bottom <= dirty.top) return false;
    const [old, now] = [this.cut(before, dirty), this.cut(this.values, dirty)];
    if (old.every((value, at) => value === now[at])) return false;
    this.done.push({ ...dirty, old, now });
    if (this.done.length > MOST_STEPS) this.done.shift();
    this.undone = [];
    return true;
  }

  /** Gives the step up. */
  drop() {
    if (!this.before) return;
    this.values.set(this.before);
    this.before = null;
    this.redraw(this.dirty);
  }

  /** Replaces all labels, as one step. */
  replace(values) {
    this.begin();
    for (let y = 0; y < this.height; y += 1) {
      for (let x = 0; x < this.width; x += 1) this.set(y, x, values[y * this.width + x]);
    }
    this.redraw(this.dirty);
    return this.keep();
  }

  undo() {
    return this.restore(this.done, this.undone, "old");
  }

  redo() {
    return this.restore(this.undone, this.done, "now");
  }

  restore(from, to, which) {
    const step = from.pop();
    if (!step) return false;
    to.push(step);
    const wide = step.right - step.left;
    for (let y = step.top; y < step.bottom; y += 1) {
      const row = (y - step.top) * wide;
      this.values.set(step[which].subarray(row, row + wide), y * this.width + step.left);
    }
    this.redraw(step);
    return true;
  }

  cut(values, { top, left, bottom, right }) {
    const part = new Uint8Array(Math.max(bottom - top, 0) * (right - left));
    for (let y = top; y < bottom; y += 1) {
      part.set(values.subarray(y * this.width + left, y * this.width + right), (y - top) * (right - left));
    }
    return part;
  }

  /** Brings a part of the picture up to date. */
  redraw({ top, left, bottom, right } = { top: 0, left: 0, bottom: this.height, right: this.width }) {
    if (bottom <= top || right <= left) return;
    const pixels = new ImageData(right - left, bottom - top);
    const colours = new Uint32Array(this.shades.buffer);
    const shown = new Uint32Array(pixels.data.buffer);
    let at = 0;
    for (let y = top; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1) shown[at++] = colours[this.values[y * this.width + x]];
    }
    this.context.putImageData(pixels, left, top);
  }

  // --- shapes; y and x are positions in pixels, whose centres are at halves ------------------------------------------

  /** All pixels nearer to the line from ``one`` to ``other`` than ``radius``, and those that it begins and ends in. */
  stroke(one, other, radius, value) {
    const [across, down] = [other.x - one.x, other.y - one.y];
    const length = across * across + down * down;
    const top = Math.max(Math.floor(Math.min(one.y, other.y) - radius), 0);
    const bottom = Math.min(Math.ceil(Math.max(one.y, other.y) + radius), this.height);
    const left = Math.max(Math.floor(Math.min(one.x, other.x) - radius), 0);
    const right = Math.min(Math.ceil(Math.max(one.x, other.x) + radius), this.width);
    for (let y = top; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1) {
        const [dx, dy] = [x + 0.5 - one.x, y + 0.5 - one.y];
        const along = length ? Math.min(Math.max((dx * across + dy * down) / length, 0), 1) : 0;
        const [away, off] = [dx - along * across, dy - along * down];
        if (away * away + off * off <= radius * radius) this.set(y, x, value);
      }
    }
    for (const { x, y } of [one, other]) {
      if (x >= 0 && y >= 0 && x < this.width && y < this.height) this.set(Math.floor(y), Math.floor(x), value);
    }
    this.redraw({ top, left, bottom, right });
    this.redraw(this.dirty);
  }

  /** All pixels whose centres are inside the polygon, by the even-odd rule. */
  polygon(points, value) {
    const ys = points.map(({ y }) => y);
    const top = Math.max(Math.floor(Math.min(...ys)), 0);
    const bottom = Math.min(Math.ceil(Math.max(...ys)), this.height);
    for (let y = top; y < bottom; y += 1) {
      const middle = y + 0.5;
      const crossings = [];
      points.forEach((one, place) => {
        const other = points[(place + 1) % points.length];
        if ((one.y <= middle) === (other.y <= middle)) return;
        crossings.push(one.x + ((middle - one.y) / (other.y - one.y)) * (other.x - one.x));
      });
      crossings.sort((one, other) => one - other);
      for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
        const first = Math.max(Math.ceil(crossings[pair] - 0.5), 0);
        const last = Math.min(Math.ceil(crossings[pair + 1] - 0.5), this.width);
        for (let x = first; x < last; x += 1) this.set(y, x, value);
      }
    }
    this.redraw(this.dirty);
  }

  /** The connected area of one label around a pixel. */
  flood({ x, y }, value) {
    const begin = Math.floor(y) * this.width + Math.floor(x);
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return;
    if (this.allowed && !this.allowed[begin]) return;
    const old = this.values[begin];
    if (old === value) return;
    const is = (at) => this.values[at] === old && (!this.allowed || this.allowed[at]);
    const left = [begin];
    while (left.length) {
      const at = left.pop();
      if (!is(at)) continue;
      const row = Math.floor(at / this.width);
      let [first, last] = [at, at];
      while (first > row * this.width && is(first - 1)) first -= 1;
      while (last + 1 < (row + 1) * this.width && is(last + 1)) last += 1;
      for (let each = first; each <= last; each += 1) {
        this.set(row, each - row * this.width, value);
        if (row > 0 && is(each - this.width)) left.push(each - this.width);
        if (row + 1 < this.height && is(each + this.width)) left.push(each + this.width);
      }
    }
    this.redraw(this.dirty);
  }

  /** All pixels that are not painted yet. */
  rest(value) {
    for (let at = 0; at < this.values.length; at += 1) {
      if (this.values[at] === UNPAINTED) this.set(Math.floor(at / this.width), at % this.width, value);
    }
    this.redraw(this.dirty);
  }
}
