// Buttons, fields, and files that are chosen or dropped.

const $ = (id) => document.getElementById(id);

export function bindButtons(editor) {
  const on = (id, act) => $(id).addEventListener("click", (event) => {
    act();
    // Keys are for the picture again; who uses the keyboard stays where they are.
    if (event.detail > 0 && !document.querySelector("dialog[open]")) $("view").focus({ preventScroll: true });
  });
  on("open", () => $("file").click());
  on("choose", () => $("file").click());
  on("sample", () => editor.open(editor.server.post("sample", {}).then((response) => response.json())));
  on("undo", () => editor.project.undo());
  on("redo", () => editor.project.redo());
  on("play", () => editor.play());
  on("to-start", () => editor.go(0));
  on("back", () => editor.go(editor.t - 1));
  on("forward", () => editor.go(editor.t + 1));
  on("to-end", () => editor.go(Infinity));
  on("mode-add", () => editor.setMode("add"));
  on("mode-correct", () => editor.setMode("correct"));
  on("mode-lasso", () => editor.setMode("lasso"));
  on("occlude", () => editor.occlude());
  on("cut", () => editor.cut());
  on("remove-query", () => editor.removeQuery());
  on("delete", () => editor.deletePoint());
  on("zoom-in", () => { editor.view.zoomTo(editor.view.scale * 1.5); editor.draw(); });
  on("zoom-out", () => { editor.view.zoomTo(editor.view.scale / 1.5); editor.draw(); });
  on("zoom-fit", () => { editor.view.fit(); editor.draw(); });
  on("take-back", () => editor.open(claim(editor, editor.server.session)).then(() => $("taken-dialog").close()));
  $("frame").addEventListener("change", () => editor.go(Number($("frame").value) || 0));
  $("name").addEventListener("change", () => editor.withChosen((project, point) => project.rename(point.id, $("name").value.trim())));
  $("tracker").addEventListener("change", () => { editor.tracked = null; editor.track(); });
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = "";
    if (file) upload(editor, file);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) upload(editor, file);
  });
}

function upload(editor, file) {
  const show = (share) => {
    const text = share < 1 ? `Sending ${file.name}: ${Math.round(100 * share)} %` : "Reading the clip …";
    $("opening").textContent = text;
    if (editor.clip) editor.say(text);
  };
  return editor.open(editor.server.upload(file, show));
}

// Get a clip that is open for this tab, from the one that has it.
export async function claim(editor, session) {
  const response = await editor.server.request("claim", { method: "POST", headers: { "x-session": session } });
  return response.json();
}
