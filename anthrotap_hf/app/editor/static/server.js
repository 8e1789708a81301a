// Requests to the server, and the pictures of frames.

export class RequestError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Server {
  constructor() {
    this.session = null;
    this.tab = null;
  }

  headers() { return this.session ? { "x-session": this.session, "x-tab": this.tab } : {}; }

  async request(path, options = {}) {
    const headers = { ...this.headers(), ...options.headers };
    let response;
    try {
      response = await fetch(`api/${path}`, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new RequestError("The server can't be reached. Is `anthrotap app` still running?", 0);
    }
    if (response.ok) return response;
    const text = await response.text();
    let reason = text;
    try { reason = JSON.parse(text).error ?? text; } catch { /* a sentence of a guard */ }
    throw new RequestError(reason || `The server answers ${response.status}.`, response.status);
  }

  async post(path, content, options = {}) {
    const headers = { "content-type": "application/json" };
    return this.request(path, { method: "POST", body: JSON.stringify(content), headers, ...options });
  }

  async about() { return (await this.request("about")).json(); }

  // Upload a file; `onProgress` is called with the share that is sent.
  upload(file, onProgress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", `api/upload?name=${encodeURIComponent(file.name)}`);
      request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
      request.onerror = () => reject(new RequestError("The upload broke off.", 0));
      request.onload = () => {
        let answer = { error: request.responseText };
        try { answer = JSON.parse(request.responseText); } catch { /* a sentence of a guard */ }
        if (request.status === 200) resolve(answer);
        else reject(new RequestError(answer.error || `The server answers ${request.status}.`, request.status));
      };
      request.send(file);
    });
  }

  // Yield the messages of a job: {kind, head, data}.
  async *stream(path, content, signal) {
    const reader = (await this.post(path, content, { signal })).body.getReader();
    let kept = new Uint8Array();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const joined = new Uint8Array(kept.length + value.length);
      joined.set(kept);
      joined.set(value, kept.length);
      kept = joined;
      for (;;) {
        if (kept.length < 9) break;
        const view = new DataView(kept.buffer, kept.byteOffset);
        const [text, data] = [view.getUint32(1, true), view.getUint32(5, true)];
        if (kept.length < 9 + text + data) break;
        const head = JSON.parse(new TextDecoder().decode(kept.subarray(9, 9 + text)));
        yield { kind: String.fromCharCode(kept[0]), head, data: kept.slice(9 + text, 9 + text + data).buffer };
        kept = kept.slice(9 + text + data);
      }
    }
  }
}

// Bytes of decoded pictures that are kept.
const MEMORY = 160e6;
const AHEAD = 10;

// Pictures of frames: small ones at once, those at full size when they are asked for.
export class Frames {
  constructor(server, onPicture) {
    this.server = server;
    this.onPicture = onPicture;
    this.clip = null;
  }

  open(clip) {
    for (const store of this.stores ?? []) for (const picture of store.values()) picture.close?.();
    this.clip = clip;
    this.small = new Map();
    this.full = new Map();
    this.stores = [this.small, this.full];
    this.asked = new Set();
    const [width, height] = clip.preview;
    this.hasFull = width < clip.width;
    this.maxSmall = Math.max(AHEAD * 2, Math.min(120, Math.floor(MEMORY / (width * height * 4))));
  }

  // The best picture of a frame that is here; asks for a better one.
  get(t, wantsFull) {
    if (wantsFull && this.hasFull) {
      const picture = this.full.get(t);
      if (picture) return picture;
      this.#ask(t, true);
    }
    const picture = this.small.get(t);
    if (picture) {
      this.small.delete(t);
      this.small.set(t, picture);
    } else this.#ask(t, false);
    return picture ?? this.full.get(t) ?? null;
  }

  has(t) { return this.small.has(t); }

  // Have the next frames ready.
  prefetch(t, direction = 1) {
    let asked = 0;
    for (let step = 1; step <= AHEAD && asked < 4; step++) {
      const next = t + step * direction;
      if (next < 0 || next >= this.clip.frames || this.small.has(next)) continue;
      this.#ask(next, false);
      asked++;
    }
  }

  async #ask(t, full) {
    const key = `${t}${full}`, clip = this.clip;
    if (this.asked.has(key) || this.asked.size > 12) return;
    this.asked.add(key);
    try {
      const response = await this.server.request(`frames/${clip.clip}/${t}${full ? "?full=1" : ""}`);
      const picture = await createImageBitmap(await response.blob());
      if (clip !== this.clip) return;
      const store = full ? this.full : this.small;
      store.set(t, picture);
      while (store.size > (full ? 6 : this.maxSmall)) {
        const [oldest, old] = store.entries().next().value;
        store.delete(oldest);
        old.close();
      }
    } catch (error) {
      this.onError?.(error);
    } finally {
      this.asked.delete(key);
      if (clip === this.clip) this.onPicture();
    }
  }
}
