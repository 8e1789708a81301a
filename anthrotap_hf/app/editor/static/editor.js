// The editor: what is open and shown, and how buttons, keys and pointers change it.

import { bindButtons, claim } from "./buttons.js";
import { about, takeAlong } from "./dialogs.js";
import { bindKeys } from "./keys.js";
import { bindPointer } from "./pointer.js";
import { EditError, Project, color, label, stretchAround } from "./project.js";
import { Frames, RequestError, Server } from "./server.js";
import { Timeline } from "./timeline.js";
import { INVALID, VISIBLE, View } from "./view.js";

const $ = (id) => document.getElementById(id);

class Editor {
  constructor() {
    this.server = new Server();
    this.frames = new Frames(this.server, () => this.draw());
    this.frames.onError = (error) => this.fail(error);
    this.project = new Project(() => this.changed());
    this.view = new View($("view"));
    this.timeline = new Timeline($("timeline"), $("strips"), $("scroller"), {
      go: (t) => this.go(t),
      choose: (id) => this.choose(id),
      range: (id, first, last) => this.setRange(id && { id, first, last }),
    });
    this.clip = null;
    this.tracks = null;
    this.t = 0;
    this.chosen = null;
    this.range = null;
    this.mode = "add";
    this.playing = false;
    this.lasso = null; // the corners of one that is being drawn, pixels of the video
    this.moved = null; // a point that is being dragged: {id, x, y}
    this.isTracking = false;
    this.tracked = null; // the points that `tracks` are of
    this.isSaved = true;
  }

  // ---- clips

  async open(promise) {
    $("opening").textContent = "Reading the clip …";
    this.setOpening(true);
    try {
      this.show(await promise);
      $("opening").textContent = "";
    } catch (error) {
      if (this.clip) this.fail(error);
      $("opening").textContent = error.message;
    } finally {
      this.setOpening(false);
    }
  }

  setOpening(is) { for (const id of ["choose", "sample", "open"]) $(id).disabled = is; }

  show(clip) {
    this.pause();
    Object.assign(this.server, { session: clip.session, tab: clip.tab });
    this.clip = clip;
    this.picture = null;
    this.tracks = this.tracked = this.chosen = this.range = this.moved = null;
    this.t = 0;
    this.isSaved = true;
    this.project.reset(clip.points);
    this.frames.open(clip);
    $("empty").hidden = true;
    $("timeline").hidden = $("zoom").hidden = false;
    document.body.classList.add("opened");
    document.title = `${clip.name} · Track editor · AnthroTAP`;
    $("of").textContent = `of ${clip.frames - 1}`;
    $("frame").max = clip.frames - 1;
    $("tracker").value = clip.tracker;
    sessionStorage.setItem("anthrotap-edit", clip.session);
    this.view.resize();
    this.view.open(clip);
    this.say(clip.damage ?? `${clip.name}: ${clip.width} x ${clip.height}, ${clip.frames} frames. Click on the picture.`);
    this.setMode("add");
    this.update();
    if (clip.points.length) this.track();
    $("view").focus({ preventScroll: true });
  }

  // ---- what is shown

  go(t) {
    if (!this.clip) return;
    const next = Math.min(this.clip.frames - 1, Math.max(0, Math.round(t)));
    if (next === this.t) return;
    this.frames.prefetch(next, next < this.t ? -1 : 1);
    this.t = next;
    this.update();
  }

  play() {
    if (!this.clip) return;
    if (this.playing) {
      this.pause();
      return;
    }
    this.playing = true;
    if (this.t === this.clip.frames - 1) this.go(0);
    const begin = performance.now(), from = this.t;
    let late = 0;
    const step = (now) => {
      if (!this.playing) return;
      const t = from + Math.floor(((now - begin - late) / 1000) * this.clip.fps);
      if (t >= this.clip.frames) {
        this.go(this.clip.frames - 1);
        this.pause();
        return;
      }
      if (t > this.t) {
        // A frame that is not here yet is waited for, not left out.
        if (this.frames.get(this.t + 1, false)) this.go(this.t + 1);
        else this.frames.prefetch(this.t);
        late = now - begin - ((this.t + 1 - from) / this.clip.fps) * 1000 > 400 ? now - begin - ((this.t - from) / this.clip.fps) * 1000 : late;
      }
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
    this.update();
  }

  pause() {
    this.playing = false;
    this.update();
  }

  choose(id) {
    if (id === this.chosen) return;
    this.chosen = id;
    if (this.range && this.range.id !== id) this.range = null;
    this.timeline.reveal(id);
    this.update();
  }

  setRange(range) {
    this.range = range;
    this.update();
  }

  setMode(mode) {
    this.mode = mode;
    $("mode-add").setAttribute("aria-pressed", String(mode === "add"));
    $("mode-correct").setAttribute("aria-pressed", String(mode === "correct"));
    $("mode-lasso").setAttribute("aria-pressed", String(mode === "lasso"));
    $("lasso-size").hidden = mode !== "lasso";
    const does = { add: "A click adds a point.", correct: "A click corrects the chosen point.", lasso: "A drag draws a lasso." };
    $("view").setAttribute("aria-label", `The shown frame. ${does[mode]}`);
    if (mode === "lasso" && this.clip) this.say("Draw around something: a grid of points over it is added.");
    if (mode === "correct" && this.chosen === null && this.clip) this.say("Choose a point: click on its dot or its name.");
  }

  // Where points are on the shown frame: {id, x, y, state, isQuery, isPending}.
  places() {
    const found = [];
    for (const point of this.project.points) {
      const place = this.placeOf(point, this.t);
      if (place) found.push(place);
    }
    return found;
  }

  placeOf(point, t) {
    if (this.moved?.id === point.id) return { ...this.moved, state: VISIBLE, isQuery: true };
    const query = point.queries.find((each) => each[0] === t);
    if (query) return { id: point.id, x: query[1], y: query[2], state: VISIBLE, isQuery: true };
    const row = this.tracks?.rows.get(point.id);
    if (row === undefined) return null;
    const at = row * this.tracks.frames + t;
    const covers = ([first, last]) => first <= t && t <= last;
    if (this.tracks.states[at] === INVALID || point.deleted.some(covers)) return null;
    const state = point.occluded.some(covers) ? 1 : this.tracks.states[at];
    const isPending = this.isTracking && this.tracked?.get(point.id) !== point;
    return { id: point.id, x: this.tracks.xy[2 * at], y: this.tracks.xy[2 * at + 1], state, isPending };
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      const style = getComputedStyle(document.documentElement);
      const named = (name) => style.getPropertyValue(`--${name}`).trim();
      if (this.clip) {
        const wantsFull = !this.playing && this.view.scale * devicePixelRatio > (this.clip.preview[0] / this.clip.width) * 1.05;
        const picture = this.frames.get(this.t, wantsFull);
        // Until a frame is here, the one before stays; what was let go of has no size any more.
        if (picture) this.picture = picture;
        else if (!this.picture?.width) this.picture = null;
        const { t, tracks, chosen, range } = this;
        this.view.draw(this.picture, { places: this.places(), tracks, t, chosen, background: named("stage") });
        if (this.lasso) this.view.drawLasso(this.lasso);
        const colors = Object.fromEntries(
          ["accent", "panel", "muted", "line", "text", "chosen", "range"].map((name) => [name, named(name)]),
        );
        this.timeline.show({ points: this.project.points, frames: this.clip.frames, tracks, t, chosen, range, colors });
        $("zoom-value").textContent = `${Math.round(this.view.scale * 100)} %`;
      } else {
        this.view.draw(null, { places: [], background: named("stage") });
      }
    });
  }

  // Bring buttons, fields and the list of points up to date, and draw.
  update() {
    const { clip, project } = this;
    const enable = (id, is) => { $(id).disabled = !is; };
    for (const id of ["play", "frame", "mode-add", "mode-lasso", "load", "tracker"]) enable(id, clip);
    for (const id of ["to-start", "back"]) enable(id, clip && this.t > 0);
    for (const id of ["forward", "to-end"]) enable(id, clip && this.t < clip.frames - 1);
    enable("undo", project.canUndo);
    enable("redo", project.canRedo);
    enable("save", project.points.length);
    enable("mode-correct", project.points.length);
    enable("export", this.tracks && project.points.length && !this.isTracking && this.isTracked());
    $("play").textContent = this.playing ? "Pause" : "Play";
    if (document.activeElement !== $("frame")) $("frame").value = this.t;
    const point = this.chosen === null ? null : project.find(this.chosen);
    if (!point) this.chosen = null;
    enable("chosen", point);
    $("chosen-name").textContent = point ? label(point) : "No point is chosen";
    if (document.activeElement !== $("name")) $("name").value = point?.name ?? "";
    enable("remove-query", point && point.queries.some((query) => query[0] === this.t));
    $("about-tracker").textContent = this.trackers?.get($("tracker").value) ?? "";
    $("no-points").hidden = project.points.length > 0;
    this.listPoints();
    this.draw();
  }

  isTracked() { return this.project.points.every((point) => this.tracked?.get(point.id) === point); }

  listPoints() {
    const list = $("points");
    const wanted = this.project.points;
    const key = wanted.map((point) => `${point.id} ${label(point)} ${point.queries.length}`).join("\n");
    if (key !== this.listed) {
      this.listed = key;
      list.replaceChildren(...wanted.map((point) => this.listItem(point)));
    }
    for (const item of list.children) {
      const is = Number(item.dataset.id) === this.chosen;
      item.setAttribute("aria-selected", String(is));
      // The list scrolls, not the page.
      if (is && !item.classList.contains("chosen")) {
        const over = item.offsetTop - list.offsetTop;
        list.scrollTop = Math.min(over, Math.max(list.scrollTop, over + item.offsetHeight - list.clientHeight));
      }
      item.classList.toggle("chosen", is);
    }
  }

  listItem(point) {
    const item = document.createElement("button");
    item.type = "button";
    item.setAttribute("role", "option");
    item.dataset.id = point.id;
    const dot = document.createElement("i");
    dot.style.background = color(point.id);
    const name = document.createElement("span");
    name.textContent = label(point);
    const details = document.createElement("small");
    details.textContent = point.queries.length === 1 ? "1 query" : `${point.queries.length} queries`;
    item.append(dot, name, details);
    item.addEventListener("click", () => this.choose(point.id));
    return item;
  }

  say(text, kind = "") {
    $("status").textContent = text;
    $("status").className = kind;
  }

  fail(error) {
    if (error instanceof RequestError && error.status === 409) {
      if (!$("taken-dialog").open) $("taken-dialog").showModal();
      return;
    }
    if (!(error instanceof RequestError || error instanceof EditError)) console.error(error);
    this.say(error.message, "bad");
  }

  // ---- edits

  // Do an edit; what can't be done is said in a sentence.
  edit(work) {
    if (!this.clip) return;
    try {
      work(this.project);
    } catch (error) {
      this.fail(error);
    }
  }

  clickAt(x, y) {
    if (!this.view.contains(x, y)) return;
    if (this.mode === "correct") {
      if (this.chosen === null) this.say("Choose a point first: click on its dot or its name.", "bad");
      else this.edit((project) => project.correct(this.chosen, this.t, x, y));
    } else {
      this.edit((project) => {
        const id = project.add(this.t, x, y);
        this.choose(id);
      });
    }
  }

  async addInside(lasso) {
    const t = this.t, size = Number($("grid").value);
    try {
      const response = await this.server.post("lasso", { lasso, t, size });
      const { points } = await response.json();
      this.edit((project) => project.addAll(points));
    } catch (error) {
      this.fail(error);
    }
  }

  withChosen(work) {
    const point = this.chosen === null ? null : this.project.find(this.chosen);
    if (point) this.edit((project) => work(project, point));
    else if (this.clip) this.say("Choose a point first.", "bad");
  }

  occlude() {
    this.withChosen((project, point) => {
      const { first, last } = this.range ?? { first: this.t, last: this.t };
      project.mark(point.id, "occluded", first, last);
    });
  }

  cut() {
    this.withChosen((project, point) => {
      const covered = point.deleted.find(([first, last]) => first <= this.t && this.t <= last);
      const [first, last] = this.range ? [this.range.first, this.range.last]
        : covered ?? stretchAround(point, this.t, this.clip.frames);
      if (first > last) throw new EditError("There is no stretch after this query: go to a frame of it.");
      project.mark(point.id, "deleted", first, last);
    });
  }

  removeQuery() { this.withChosen((project, point) => project.removeQuery(point.id, this.t)); }
  deletePoint() { this.withChosen((project, point) => project.delete(point.id)); }

  rangeEnd(which) {
    this.withChosen((_, point) => {
      const range = this.range ?? { id: point.id, first: this.t, last: this.t };
      const next = { ...range, [which]: this.t };
      this.setRange(next.first <= next.last ? next : { id: point.id, first: this.t, last: this.t });
    });
  }

  changed() {
    this.isSaved = false;
    if (this.chosen !== null && !this.project.find(this.chosen)) this.chosen = this.range = null;
    this.update();
    this.track();
  }

  // ---- tracking

  // Track the points as they are now; changes that come meanwhile are tracked after that, all at once.
  async track() {
    this.wantsTracking = true;
    // What is being tracked is of points that have changed: only the near frames of it are waited for.
    if (this.isTracking) {
      if (this.isLooked) this.abort?.abort();
      return;
    }
    this.isTracking = true;
    while (this.wantsTracking) {
      this.wantsTracking = false;
      const points = this.project.points, clip = this.clip;
      if (!points.length) {
        this.tracks = null;
        this.tracked = new Map();
        this.say("");
        continue;
      }
      this.update();
      await this.trackOnce(points, clip);
    }
    this.isTracking = false;
    $("progress").hidden = true;
    this.update();
  }

  async trackOnce(points, clip) {
    const begin = performance.now();
    this.isLooked = false;
    this.abort = new AbortController();
    const isRepair = this.isRepair; // the tracks before a change that could not be: what was said of it stays
    this.isRepair = false;
    if (!isRepair) this.say("Tracking …");
    try {
      const content = { points, around: this.t, tracker: $("tracker").value };
      let isDone = false;
      for await (const { kind, head, data } of this.server.stream("track", content, this.abort.signal)) {
        if (clip !== this.clip) return;
        if (kind === "e") throw new RequestError(head.error, head.isWrong ? 422 : 400);
        if (kind === "p" && !isRepair) this.showProgress(head);
        if (kind === "t") {
          isDone ||= !head.partial;
          this.takeTracks(head, data, points);
          this.isLooked = true;
          if (head.partial && this.wantsTracking) return;
          const seconds = ((performance.now() - begin) / 1000).toFixed(1);
          const count = points.length === 1 ? "1 point" : `${points.length} points`;
          if (!isRepair && seconds < 0.3) this.say("Done.");
          else if (!isRepair) this.say(head.partial ? `Near this frame tracked in ${seconds} s; the rest follows …` : `${count} tracked in ${seconds} s.`);
        }
      }
      if (!isDone) throw new RequestError("The tracking broke off: change something to try again.", 0);
    } catch (error) {
      if (error.name === "AbortError") return;
      // What contradicts itself, the user has just done: it is taken back, and said.
      if (error.status === 422 && this.project.points === points && this.project.canUndo) {
        this.isRepair = true;
        this.project.takeBack();
      }
      this.fail(error);
    }
  }

  takeTracks(head, data, points) {
    const count = head.ids.length * head.frames;
    this.tracks = {
      rows: new Map(head.ids.map((id, row) => [id, row])),
      frames: head.frames,
      xy: new Float32Array(data, 0, 2 * count),
      states: new Uint8Array(data, 8 * count, count),
    };
    if (!head.partial) this.tracked = new Map(points.map((point) => [point.id, point]));
    this.draw();
  }

  showProgress({ what, done, total }) {
    const bar = $("progress");
    bar.hidden = false;
    if (total) bar.value = done / total;
    else bar.removeAttribute("value");
    this.say(total ? `${what} …` : what);
  }
}

async function start() {
  const editor = new Editor();
  window.editor = editor;
  bindButtons(editor);
  bindKeys(editor);
  bindPointer(editor);
  takeAlong(editor);
  new ResizeObserver(() => { editor.view.resize(); editor.draw(); }).observe($("stage"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => editor.draw());
  window.addEventListener("beforeunload", (event) => {
    if (!editor.isSaved && editor.project.points.length) event.preventDefault();
  });
  window.addEventListener("pagehide", () => {
    const { session, tab } = editor.server;
    if (session) navigator.sendBeacon("api/leave", JSON.stringify({ session, tab }));
  });
  await about(editor);
  const taken = /^#take=(.+)/.exec(location.hash);
  if (taken) {
    // Once: a page that is loaded again has its own clip.
    history.replaceState(null, "", location.pathname + location.search);
    await editor.open(editor.server.post("take", { from: decodeURIComponent(taken[1]) }).then((response) => response.json()));
  }
  const session = taken ? null : sessionStorage.getItem("anthrotap-edit");
  if (session) {
    try {
      editor.show(await claim(editor, session));
    } catch {
      sessionStorage.removeItem("anthrotap-edit"); // it has ended meanwhile
    }
  }
  document.body.classList.add("ready");
}

const theme = new URLSearchParams(location.search).get("__theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
start();
