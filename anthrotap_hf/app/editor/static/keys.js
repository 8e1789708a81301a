// The keyboard.

const $ = (id) => document.getElementById(id);

export function bindKeys(editor) {
  const acts = {
    ArrowLeft: (event) => editor.go(editor.t - (event.shiftKey ? 10 : 1)),
    ArrowRight: (event) => editor.go(editor.t + (event.shiftKey ? 10 : 1)),
    Home: () => editor.go(0),
    End: () => editor.go(Infinity),
    ArrowUp: () => chooseNext(editor, -1),
    ArrowDown: () => chooseNext(editor, 1),
    j: () => goToQuery(editor, -1),
    k: () => goToQuery(editor, 1),
    a: () => editor.setMode("add"),
    c: () => editor.setMode("correct"),
    l: () => editor.setMode("lasso"),
    "[": () => editor.rangeEnd("first"),
    "]": () => editor.rangeEnd("last"),
    o: () => editor.occlude(),
    x: () => editor.cut(),
    r: () => editor.removeQuery(),
    Delete: () => editor.deletePoint(),
    Backspace: () => editor.deletePoint(),
    Escape: () => { editor.setRange(null); editor.choose(null); },
    "+": () => editor.view.zoomTo(editor.view.scale * 1.25),
    "=": () => editor.view.zoomTo(editor.view.scale * 1.25),
    "-": () => editor.view.zoomTo(editor.view.scale / 1.25),
    0: () => editor.view.fit(),
    1: () => editor.view.zoomTo(1),
    "?": () => $("help-dialog").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || isTyping(event.target)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      if (key === "y" || event.shiftKey) editor.project.redo();
      else editor.project.undo();
      return;
    }
    if (event.altKey || !editor.clip && key !== "?") return;
    if (key === " ") {
      if (event.target.matches("button, select, a")) return;
      event.preventDefault();
      if (!event.repeat) editor.space = { dragged: false };
      return;
    }
    if (!Object.hasOwn(acts, key) || event.target.matches("select")) return;
    event.preventDefault();
    acts[key](event);
    editor.draw();
  });
  // Space plays, unless it was held to move the picture.
  document.addEventListener("keyup", (event) => {
    if (event.key !== " " || !editor.space) return;
    const { dragged } = editor.space;
    editor.space = null;
    if (!dragged) editor.play();
  });
  window.addEventListener("blur", () => { editor.space = null; });
  $("help").addEventListener("click", () => $("help-dialog").showModal());
}

function isTyping(target) {
  return target.matches("input, textarea");
}

function chooseNext(editor, step) {
  const { points } = editor.project;
  if (!points.length) return;
  const at = points.findIndex((point) => point.id === editor.chosen);
  const next = at < 0 ? (step > 0 ? 0 : points.length - 1) : at + step;
  editor.choose(points[Math.min(points.length - 1, Math.max(0, next))].id);
}

function goToQuery(editor, step) {
  editor.withChosen((_, point) => {
    const frames = point.queries.map((query) => query[0]);
    const next = step < 0 ? frames.filter((t) => t < editor.t).at(-1) : frames.find((t) => t > editor.t);
    if (next !== undefined) editor.go(next);
  });
}
