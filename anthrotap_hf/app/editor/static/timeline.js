// A strip for each point: filled where visible, hollow where occluded, nothing where invalid; queries are ticks.

import { color, label } from "./project.js";
import { OCCLUDED, VISIBLE } from "./view.js";

const RULER = 24;

export class Timeline {
  constructor(container, canvas, scroller, actions) {
    Object.assign(this, { container, canvas, scroller, actions });
    this.context = canvas.getContext("2d");
    container.addEventListener("scroll", () => this.draw());
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
  }

  get row() { return matchMedia("(pointer: coarse)").matches ? 28 : 22; }
  get gutter() { return this.canvas.clientWidth < 600 ? 74 : 118; }

  // Called whenever something has changed.
  show(scene) {
    this.scene = scene;
    const rows = scene.points.length;
    const height = `${RULER + rows * this.row + 4}px`;
    if (this.scroller.style.height !== height) this.scroller.style.height = height;
    this.draw();
  }

  // Scroll so that a point's strip is in view.
  reveal(id) {
    const index = this.scene?.points.findIndex((point) => point.id === id) ?? -1;
    if (index < 0) return;
    const top = index * this.row, space = this.container.clientHeight - RULER - this.row;
    if (top < this.container.scrollTop) this.container.scrollTop = top;
    else if (top > this.container.scrollTop + space) this.container.scrollTop = top - space;
  }

  x(t) {
    const { gutter, canvas } = this;
    return gutter + ((t + 0.5) / this.scene.frames) * (canvas.clientWidth - gutter - 10);
  }

  frameAt(x) {
    const { gutter, canvas } = this;
    const t = Math.floor(((x - gutter) / (canvas.clientWidth - gutter - 10)) * this.scene.frames);
    return Math.min(this.scene.frames - 1, Math.max(0, t));
  }

  draw() {
    const { canvas, context, scene } = this;
    if (!scene) return;
    const ratio = window.devicePixelRatio || 1;
    const width = this.container.clientWidth, height = this.container.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const top = this.container.scrollTop, row = this.row;
    const first = Math.max(0, Math.floor(top / row)), last = Math.min(scene.points.length - 1, Math.ceil((top + height) / row));
    for (let n = first; n <= last; n++) this.#drawRow(scene.points[n], RULER + n * row - top);
    this.#drawRuler(width);
    const x = this.x(scene.t);
    context.strokeStyle = scene.colors.accent;
    context.lineWidth = 2;
    line(context, x, RULER, x, height);
  }

  #drawRuler(width) {
    const { context, scene } = this;
    context.fillStyle = scene.colors.panel;
    context.fillRect(0, 0, width, RULER);
    context.fillStyle = scene.colors.muted;
    context.strokeStyle = scene.colors.line;
    context.lineWidth = 1;
    context.font = "11px ui-sans-serif, system-ui, sans-serif";
    context.textAlign = "center";
    const pixels = (width - this.gutter - 10) / scene.frames;
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((each) => each * pixels >= 46) ?? 2000;
    for (let t = 0; t < scene.frames; t += step) {
      const x = this.x(t);
      line(context, x, RULER - 6, x, RULER - 1);
      // Not over the shown frame's own number.
      if (Math.abs(x - this.x(scene.t)) > 30) context.fillText(String(t), x, RULER - 9);
    }
    const x = Math.min(width - 16, Math.max(this.gutter, this.x(scene.t)));
    context.fillStyle = scene.colors.accent;
    context.font = "600 12px ui-sans-serif, system-ui, sans-serif";
    context.fillText(String(scene.t), x, RULER - 9);
    line(context, 0, RULER - 0.5, width, RULER - 0.5);
  }

  #drawRow(point, y) {
    const { context, scene, row, gutter } = this;
    const middle = y + row / 2, bar = Math.round(row * 0.46);
    if (point.id === scene.chosen) {
      context.fillStyle = scene.colors.chosen;
      context.fillRect(0, y, this.canvas.clientWidth, row);
    }
    context.fillStyle = color(point.id);
    context.beginPath();
    context.arc(11, middle, 4.5, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = scene.colors.text;
    context.font = "12px ui-sans-serif, system-ui, sans-serif";
    context.textAlign = "left";
    context.fillText(short(context, label(point), gutter - 28), 21, middle + 4);
    context.strokeStyle = scene.colors.line;
    context.lineWidth = 1;
    line(context, this.x(-0.5), middle, this.x(scene.frames - 0.5), middle);
    const at = scene.tracks?.rows.get(point.id);
    if (at !== undefined) this.#drawStates(point.id, at, middle, bar);
    const { range } = scene;
    if (range && range.id === point.id) {
      context.fillStyle = scene.colors.range;
      const [from, to] = [this.x(range.first - 0.5), this.x(range.last + 0.5)];
      context.fillRect(from, y, to - from, row);
      context.strokeStyle = scene.colors.accent;
      context.strokeRect(from + 0.5, y + 0.5, to - from - 1, row - 1);
    }
    for (const [t] of point.queries) {
      const x = this.x(t);
      context.fillStyle = scene.colors.text;
      context.strokeStyle = scene.colors.panel;
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(x, middle - row / 2 + 1.5);
      context.lineTo(x + 4.5, middle);
      context.lineTo(x, middle + row / 2 - 1.5);
      context.lineTo(x - 4.5, middle);
      context.closePath();
      context.stroke();
      context.fill();
    }
  }

  #drawStates(id, at, middle, bar) {
    const { context, scene } = this;
    const { states, frames } = scene.tracks;
    for (let from = 0; from < frames; ) {
      const state = states[at * frames + from];
      let to = from;
      while (to < frames && states[at * frames + to] === state) to++;
      const [left, right] = [this.x(from - 0.5), this.x(to - 0.5)];
      if (state === VISIBLE) {
        context.fillStyle = color(id, 50);
        context.fillRect(left, middle - bar / 2, right - left, bar);
      } else if (state === OCCLUDED) {
        context.fillStyle = scene.colors.panel;
        context.fillRect(left, middle - bar / 2, right - left, bar);
        context.strokeStyle = color(id, 50);
        context.lineWidth = 1.5;
        context.strokeRect(left + 0.75, middle - bar / 2 + 0.75, Math.max(0.5, right - left - 1.5), bar - 1.5);
      }
      from = to;
    }
  }

  #pointAt(y) {
    if (y < RULER) return null;
    return this.scene.points[Math.floor((y - RULER + this.container.scrollTop) / this.row)] ?? null;
  }

  #down(event) {
    if (!this.scene || event.button > 0) return;
    const [x, y] = [event.offsetX, event.offsetY];
    const point = this.#pointAt(y), t = this.frameAt(x);
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { x, t, id: point?.id ?? null, isRange: false };
    if (!point) {
      this.actions.go(t);
      return;
    }
    this.actions.choose(point.id);
    if (x < this.gutter) return;
    const near = point.queries.map((query) => query[0]).filter((each) => Math.abs(this.x(each) - x) <= 7);
    near.sort((one, other) => Math.abs(this.x(one) - x) - Math.abs(this.x(other) - x));
    this.actions.go(near[0] ?? t);
  }

  #move(event) {
    if (!this.drag) return;
    const t = this.frameAt(event.offsetX);
    if (this.drag.id === null) {
      this.actions.go(t);
      return;
    }
    if (Math.abs(event.offsetX - this.drag.x) > 5) this.drag.isRange = true;
    if (!this.drag.isRange) return;
    this.actions.range(this.drag.id, Math.min(t, this.drag.t), Math.max(t, this.drag.t));
    this.actions.go(t);
  }

  #up() {
    if (this.drag && !this.drag.isRange && this.drag.id !== null) this.actions.range(null);
    this.drag = null;
  }
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function short(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let cut = text;
  while (cut.length > 1 && context.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return `${cut}…`;
}
