// The shown frame with its tracks on a canvas: zoom, pan, and where a click lies in the video.
// Positions are raster pixels of the video: the frame spans (0, 0) to (width, height).

import { color } from "./project.js";

export const VISIBLE = 2, OCCLUDED = 1, INVALID = 0;
const TRAIL = 14;
const MAX_SCALE = 40;

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.clip = null;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.fits = true;
  }

  open(clip) {
    this.clip = clip;
    this.fit();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    if (this.clip && this.fits) this.fit();
  }

  get fitScale() {
    const { clientWidth, clientHeight } = this.canvas;
    return Math.min(clientWidth / this.clip.width, clientHeight / this.clip.height) || 1;
  }

  fit() {
    this.scale = this.fitScale;
    this.fits = true;
    this.#center();
  }

  #center() {
    this.x = (this.canvas.clientWidth - this.clip.width * this.scale) / 2;
    this.y = (this.canvas.clientHeight - this.clip.height * this.scale) / 2;
  }

  // Zoom to a scale, so that what is at (cx, cy) of the canvas stays there.
  zoomTo(scale, cx = this.canvas.clientWidth / 2, cy = this.canvas.clientHeight / 2) {
    const least = Math.min(1, this.fitScale) / 2;
    const next = Math.min(MAX_SCALE, Math.max(least, scale));
    this.x = cx - ((cx - this.x) * next) / this.scale;
    this.y = cy - ((cy - this.y) * next) / this.scale;
    this.scale = next;
    this.fits = false;
    this.pan(0, 0);
  }

  pan(dx, dy) {
    this.fits &&= dx === 0 && dy === 0;
    // Some of the picture stays in view.
    const { clientWidth, clientHeight } = this.canvas;
    const [w, h] = [this.clip.width * this.scale, this.clip.height * this.scale];
    const margin = 60;
    this.x = Math.min(clientWidth - margin, Math.max(margin - w, this.x + dx));
    this.y = Math.min(clientHeight - margin, Math.max(margin - h, this.y + dy));
  }

  toVideo(cx, cy) { return [(cx - this.x) / this.scale, (cy - this.y) / this.scale]; }
  toCanvas(x, y) { return [x * this.scale + this.x, y * this.scale + this.y]; }
  contains(x, y) { return x >= 0 && y >= 0 && x <= this.clip.width && y <= this.clip.height; }

  // Dots grow with the view, and stay large enough to be seen and hit.
  get radius() {
    const base = Math.min(8, Math.max(5, Math.min(this.canvas.clientWidth, this.canvas.clientHeight) / 90));
    return base * Math.min(2.2, Math.max(1, Math.sqrt(this.scale / this.fitScale)));
  }

  // The nearest point whose dot is at (cx, cy) of the canvas; null if there is none.
  hit(cx, cy, places, extra = 4) {
    let best = null, least = this.radius + extra;
    for (const { id, x, y } of places) {
      const [px, py] = this.toCanvas(x, y);
      const distance = Math.hypot(px - cx, py - cy);
      if (distance < least) [best, least] = [id, distance];
    }
    return best;
  }

  draw(picture, scene) {
    const { context, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = scene.background;
    context.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.clip) return;
    const [w, h] = [this.clip.width * this.scale, this.clip.height * this.scale];
    if (picture) {
      context.imageSmoothingEnabled = this.scale * ratio < 3;
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, this.x, this.y, w, h);
    }
    for (const place of scene.places) this.#drawTrail(place, scene);
    for (const place of scene.places) if (place.id !== scene.chosen) this.#drawDot(place, false);
    for (const place of scene.places) if (place.id === scene.chosen) this.#drawDot(place, true);
  }

  drawLasso(corners) {
    const { context } = this;
    context.beginPath();
    for (const [x, y] of corners) context.lineTo(...this.toCanvas(x, y));
    context.closePath();
    context.fillStyle = "rgb(45 212 191 / 20%)";
    context.fill();
    stroke(context, "rgb(0 0 0 / 70%)", 4);
    stroke(context, "#2dd4bf", 2);
  }

  #drawTrail({ id }, { tracks, t }) {
    const row = tracks?.rows.get(id);
    if (row === undefined) return;
    const { context } = this;
    context.lineWidth = Math.max(1.5, this.radius / 3.2);
    context.lineCap = "round";
    context.strokeStyle = color(id);
    for (let s = Math.max(1, t - TRAIL + 1); s <= t; s++) {
      const at = row * tracks.frames + s;
      if (tracks.states[at] === INVALID || tracks.states[at - 1] === INVALID) continue;
      context.globalAlpha = 0.75 * (1 - (t - s) / TRAIL) * (tracks.states[at] === OCCLUDED ? 0.45 : 1);
      context.beginPath();
      context.moveTo(...this.toCanvas(tracks.xy[2 * at - 2], tracks.xy[2 * at - 1]));
      context.lineTo(...this.toCanvas(tracks.xy[2 * at], tracks.xy[2 * at + 1]));
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  #drawDot({ id, x, y, state, isQuery, isPending }, isChosen) {
    const { context } = this;
    const [px, py] = this.toCanvas(x, y);
    const r = this.radius;
    context.globalAlpha = isPending ? 0.55 : 1;
    // A dark rim keeps the dot visible on anything.
    circle(context, px, py, r);
    if (state === VISIBLE && this.scale < 6) {
      context.fillStyle = color(id);
      context.fill();
      stroke(context, "rgb(0 0 0 / 65%)", 1.5);
      circle(context, px, py, r - 1.5);
      stroke(context, "rgb(255 255 255 / 85%)", 1.2);
    } else {
      // Hollow: occluded; or so close that the pixel below must be seen.
      stroke(context, "rgb(0 0 0 / 65%)", 5);
      stroke(context, color(id), 2.6);
      if (state === VISIBLE) {
        context.fillStyle = color(id);
        circle(context, px, py, 2.6);
        context.fill();
        stroke(context, "rgb(0 0 0 / 65%)", 1);
      }
    }
    if (isQuery) cross(context, px, py, r);
    if (isChosen) {
      circle(context, px, py, r + 4);
      stroke(context, "rgb(0 0 0 / 70%)", 4);
      stroke(context, "#fff", 2);
    }
    context.globalAlpha = 1;
  }
}

function circle(context, x, y, r) {
  context.beginPath();
  context.arc(x, y, Math.max(0.5, r), 0, 2 * Math.PI);
}

function stroke(context, style, width) {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.stroke();
}

// Marks a query: what the user has said, and not the tracker.
function cross(context, x, y, r) {
  for (const [style, width] of [["rgb(0 0 0 / 70%)", 3.5], ["#fff", 1.6]]) {
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * (r + 1), y + dy * (r + 1));
      context.lineTo(x + dx * (r + 6), y + dy * (r + 6));
    }
    stroke(context, style, width);
  }
}
