// Mouse, pen and fingers on the picture: click, drag a point, move and zoom the picture.

// Pixels that a hand may slip in a click.
const SLIP = 4;

export function bindPointer(editor) {
  const { view } = editor;
  const { canvas } = view;
  const fingers = new Map();
  let act = null; // what the pressed pointer does: {kind: "point" | "click" | "pan" | "pinch", ...}

  // Where an event is on the canvas; a mouse is at the center of the pixel that it is on.
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const half = event.pointerType === "mouse" ? 0.5 : 0;
    return [Math.floor(event.clientX - box.left + half * 1e-6) + half, Math.floor(event.clientY - box.top + half * 1e-6) + half];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!editor.clip) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, [x, y]);
      if (fingers.size === 2) {
        editor.moved = editor.lasso = null;
        act = { kind: "pinch", ...spread(fingers) };
        editor.draw();
        return;
      }
      if (fingers.size > 2) return;
    }
    if (event.button === 1 || editor.space) {
      event.preventDefault();
      act = { kind: "pan", x, y };
      return;
    }
    if (event.button !== 0) return;
    if (editor.mode === "lasso") {
      act = { kind: "lasso" };
      editor.lasso = [view.toVideo(x, y)];
      return;
    }
    const places = editor.places();
    const id = view.hit(x, y, places, event.pointerType === "touch" ? 14 : 3);
    // In the mode for corrections, only the chosen point's own dot is in the way of a click.
    if (id !== null && !(editor.mode === "correct" && editor.chosen !== null && id === editor.chosen)) {
      const place = places.find((each) => each.id === id);
      const [px, py] = view.toCanvas(place.x, place.y);
      act = { kind: "point", id, x, y, dx: px - x, dy: py - y, moved: false };
      editor.choose(id);
    } else if (id !== null) {
      const place = places.find((each) => each.id === id);
      const [px, py] = view.toCanvas(place.x, place.y);
      act = { kind: "point", id, x, y, dx: px - x, dy: py - y, moved: false, isClick: true };
    } else {
      act = { kind: "click", x, y };
    }
  });

  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [x, y]);
    if (!act) {
      if (editor.clip) hover(editor, x, y);
      return;
    }
    if (act.kind === "pinch") {
      if (fingers.size < 2) return;
      const next = spread(fingers);
      view.zoomTo((view.scale * next.distance) / act.distance, next.x, next.y);
      view.pan(next.x - act.x, next.y - act.y);
      act = { kind: "pinch", ...next };
    } else if (act.kind === "lasso") {
      const last = view.toCanvas(...editor.lasso.at(-1));
      if (Math.hypot(x - last[0], y - last[1]) < 3) return;
      editor.lasso.push(view.toVideo(x, y));
    } else if (act.kind === "pan") {
      view.pan(x - act.x, y - act.y);
      Object.assign(act, { x, y });
      if (editor.space) editor.space.dragged = true;
    } else if (Math.hypot(x - act.x, y - act.y) > SLIP || act.moved) {
      if (act.kind === "click") {
        act = { kind: "pan", x, y };
        return;
      }
      act.moved = true;
      const [vx, vy] = inside(editor.clip, view.toVideo(x + act.dx, y + act.dy));
      editor.moved = { id: act.id, x: vx, y: vy };
    } else return;
    editor.draw();
  });

  const end = (event) => {
    fingers.delete(event.pointerId);
    const done = act;
    if (done?.kind === "pinch" && fingers.size) return;
    act = null;
    const { lasso } = editor;
    editor.lasso = null;
    if (!done || event.type === "pointercancel") {
      editor.moved = null;
      editor.draw();
      return;
    }
    if (done.kind === "lasso") {
      if (lasso.length > 3) editor.addInside(lasso);
    } else if (done.kind === "click" || (done.kind === "point" && done.isClick && !done.moved)) {
      editor.clickAt(...view.toVideo(done.x, done.y));
    } else if (done.kind === "point" && done.moved) {
      const { id, x, y } = editor.moved;
      editor.moved = null;
      editor.edit((project) => project.correct(id, editor.t, x, y));
    }
    editor.draw();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("wheel", (event) => {
    if (!editor.clip) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    view.zoomTo(view.scale * Math.exp(-event.deltaY * lines * 0.0016), ...at(event));
    editor.draw();
  }, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("auxclick", (event) => event.preventDefault());
}

function hover(editor, x, y) {
  const { canvas } = editor.view;
  const cursor = editor.space ? "grab" : editor.view.hit(x, y, editor.places(), 3) === null ? "crosshair" : "move";
  if (canvas.style.cursor !== cursor) canvas.style.cursor = cursor;
}

function inside(clip, [x, y]) {
  return [Math.min(clip.width, Math.max(0, x)), Math.min(clip.height, Math.max(0, y))];
}

function spread(fingers) {
  const [[x0, y0], [x1, y1]] = fingers.values();
  return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, distance: Math.max(10, Math.hypot(x1 - x0, y1 - y0)) };
}
