// What the page offers, and the files that are taken along.

const $ = (id) => document.getElementById(id);

// Fill in trackers and limits, which the server knows.
export async function about(editor) {
  try {
    const found = await editor.server.about();
    $("limits").textContent = `Any video ${found.limits}. It stays on this server only while it is open here.`;
    $("tracker").replaceChildren(...found.trackers.map(({ name }) => new Option(name, name)));
    $("tracker").value = found.tracker;
    editor.trackers = new Map(found.trackers.map(({ name, about: text }) => [name, text]));
    editor.project.maxPoints = found.maxPoints;
    editor.update();
    $("formats").replaceChildren(...found.formats.map((format) => formatItem(editor, format)));
  } catch (error) {
    editor.fail(error);
    $("opening").textContent = error.message;
  }
}

function formatItem(editor, { name, label, use }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.dataset.format = name;
  const text = document.createElement("span");
  text.textContent = use;
  item.append(button, text);
  button.addEventListener("click", async () => {
    button.disabled = true;
    text.textContent = "Writing …";
    try {
      save(await editor.server.post("export", { format: name }));
      text.textContent = use;
    } catch (error) {
      text.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
  return item;
}

export function takeAlong(editor) {
  $("export").addEventListener("click", () => $("export-dialog").showModal());
  $("save").addEventListener("click", async () => {
    try {
      await save(await editor.server.post("save", { points: editor.project.points }));
      editor.isSaved = true;
    } catch (error) {
      editor.fail(error);
    }
  });
  $("load").addEventListener("click", () => $("project-file").click());
  $("project-file").addEventListener("change", async () => {
    const [file] = $("project-file").files;
    $("project-file").value = "";
    if (!file) return;
    try {
      const headers = { "content-type": "application/json" };
      const response = await editor.server.request("load", { method: "POST", body: file, headers });
      editor.project.change((await response.json()).points);
    } catch (error) {
      editor.fail(error);
    }
  });
}

// Let the browser save an answer as the file that it names.
export async function save(response) {
  const header = response.headers.get("content-disposition") ?? "";
  const encoded = /filename\*=(?:utf-8|UTF-8)''([^;]+)/.exec(header);
  const plain = /filename="([^"]+)"/.exec(header);
  const link = document.createElement("a");
  link.download = encoded ? decodeURIComponent(encoded[1]) : plain?.[1] ?? "tracks";
  link.href = URL.createObjectURL(await response.blob());
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
