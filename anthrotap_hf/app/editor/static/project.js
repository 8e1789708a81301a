// What the user has said about each point, with undo. A point is {id, name, queries: [[t, x, y], ...], occluded:
// [[first, last], ...], deleted: [...]}, as the server and project files have it. Points are never changed in place.

export class EditError extends Error {}

export class Project {
  constructor(onChange) {
    this.onChange = onChange;
    this.maxPoints = 0; // the server says it
    this.reset([]);
  }

  reset(points) {
    this.points = points;
    this.past = [];
    this.future = [];
  }

  get canUndo() { return this.past.length > 0; }
  get canRedo() { return this.future.length > 0; }

  find(id) { return this.points.find((point) => point.id === id); }

  undo() { this.#swap(this.past, this.future); }
  redo() { this.#swap(this.future, this.past); }

  #swap(from, to) {
    if (!from.length) return;
    to.push(this.points);
    this.points = from.pop();
    this.onChange();
  }

  // Forget the last change: it can't be.
  takeBack() {
    if (!this.past.length) return;
    this.points = this.past.pop();
    this.onChange();
  }

  change(points) {
    this.past.push(this.points);
    if (this.past.length > 500) this.past.shift();
    this.future = [];
    this.points = points;
    this.onChange();
  }

  #replace(id, change) {
    this.change(this.points.map((point) => (point.id === id ? { ...point, ...change } : point)));
  }

  add(t, x, y) {
    if (this.points.length >= this.maxPoints) throw new EditError(`${this.maxPoints} points are the most that this page edits.`);
    const id = this.points.reduce((most, point) => Math.max(most, point.id), 0) + 1;
    this.change([...this.points, { id, name: "", queries: [[t, x, y]], occluded: [], deleted: [] }]);
    return id;
  }

  // Add points at queries [[t, x, y], ...], as one change.
  addAll(queries) {
    const first = this.points.reduce((most, point) => Math.max(most, point.id), 0) + 1;
    if (this.points.length + queries.length > this.maxPoints) {
      throw new EditError(`${this.maxPoints} points are the most that this page edits: choose a coarser grid.`);
    }
    const added = queries.map((query, n) => ({ id: first + n, name: "", queries: [query], occluded: [], deleted: [] }));
    this.change([...this.points, ...added]);
  }

  correct(id, t, x, y) {
    const point = this.find(id);
    const queries = [...point.queries.filter((query) => query[0] !== t), [t, x, y]].sort((a, b) => a[0] - b[0]);
    const occluded = without(point.occluded, t, t), deleted = without(point.deleted, t, t);
    this.#replace(id, { queries, occluded, deleted });
  }

  removeQuery(id, t) {
    const queries = this.find(id).queries.filter((query) => query[0] !== t);
    if (!queries.length) throw new EditError("A point needs one query: delete the point instead.");
    this.#replace(id, { queries });
  }

  // Mark frames as "occluded" or "deleted"; frames that all are marked so already are no more.
  mark(id, kind, first, last) {
    const point = this.find(id);
    const other = kind === "occluded" ? "deleted" : "occluded";
    if (point[kind].some(([a, b]) => a <= first && last <= b)) {
      this.#replace(id, { [kind]: without(point[kind], first, last) });
      return;
    }
    const queries = point.queries.filter(([t]) => t < first || t > last);
    if (!queries.length) throw new EditError("A point needs one query outside: choose a shorter stretch.");
    const stretches = merged([...point[kind], [first, last]]);
    this.#replace(id, { queries, [kind]: stretches, [other]: without(point[other], first, last) });
  }

  rename(id, name) { this.#replace(id, { name }); }

  delete(id) { this.change(this.points.filter((point) => point.id !== id)); }
}

export function label(point) { return point.name || `Point ${point.id}`; }

export function color(id, lightness = 58) { return `hsl(${(id * 137.508 + 150) % 360} 85% ${lightness}%)`; }

// The stretch around a frame: from the query before to the one after, without these; with no query there, to the end.
export function stretchAround(point, t, frames) {
  const before = point.queries.filter((query) => query[0] <= t).at(-1);
  const after = point.queries.find((query) => query[0] > t);
  if (before && before[0] === t) return [t + 1, after ? after[0] - 1 : frames - 1];
  return [before ? before[0] + 1 : 0, after ? after[0] - 1 : frames - 1];
}

function without(stretches, first, last) {
  return stretches.flatMap(([a, b]) => {
    if (b < first || a > last) return [[a, b]];
    return [[a, first - 1], [last + 1, b]].filter(([from, to]) => from <= to);
  });
}

function merged(stretches) {
  const found = [];
  for (const [a, b] of [...stretches].sort((one, other) => one[0] - other[0])) {
    const last = found.at(-1);
    if (last && a <= last[1] + 1) last[1] = Math.max(last[1], b);
    else found.push([a, b]);
  }
  return found;
}
