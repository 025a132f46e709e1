// Sends files with the page's choices to the service as a new job. The browser sends them itself, so that a film of some
// gigabytes never passes through the dashboard's memory. A box may be drawn on a single photo.

const MIN_BOX = 8; // pixels on the screen: less is a click

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < 3) {
    bytes /= 1000;
    unit += 1;
  }
  return `${Number(bytes.toFixed(unit ? 1 : 0))} ${units[unit]}`;
}

const bytesOf = (files) => files.reduce((sum, file) => sum + file.size, 0);

class Submit {
  constructor(root) {
    const find = (selector) => root.querySelector(selector);
    Object.assign(this, { drop: find(".drop"), input: find("input"), words: find(".words"), more: find(".more") });
    Object.assign(this, { preview: find(".preview"), image: find("img"), box: find(".box"), hint: find(".hint") });
    Object.assign(this, { go: find(".go"), stop: find(".stop"), bar: find("progress"), status: find(".status") });
    this.files = [];
    this.drawn = null;
    this.request = null;
    this.input.onchange = () => this.take([...this.input.files]);
    this.drop.ondragover = (event) => {
      event.preventDefault();
      this.drop.classList.add("over");
    };
    this.drop.ondragleave = () => this.drop.classList.remove("over");
    this.drop.ondrop = (event) => {
      event.preventDefault();
      this.drop.classList.remove("over");
      this.take([...event.dataTransfer.files]);
    };
    this.go.onclick = () => this.send();
    this.stop.onclick = () => this.request?.abort();
    this.preview.onpointerdown = (event) => this.draw(event);
  }

  update(data, onSent) {
    this.data = data;
    this.onSent = onSent;
    this.input.accept = data.accept;
    this.input.multiple = data.multiple;
    this.go.textContent = data.label;
    this.show();
  }

  take(files) {
    if (!files.length) return;
    this.files = this.data.multiple ? files : files.slice(0, 1);
    this.forgetBox();
    if (this.image.src) URL.revokeObjectURL(this.image.src);
    this.image.removeAttribute("src");
    const [only] = this.files;
    if (this.files.length === 1 && only.type.startsWith("image/")) this.image.src = URL.createObjectURL(only);
    this.show();
    this.say(this.tooMuch(), true);
  }

  /** Why the service would not take the chosen files; empty where it would. */
  tooMuch() {
    const { files, data } = this;
    if (files.length > data.maxFiles) {
      return `These are ${files.length} files, and ${data.maxFiles} are taken at once: send the rest afterwards.`;
    }
    const large = files.find((file) => file.size > data.maxFileBytes);
    if (large) {
      return `${large.name} has ${size(large.size)}, and the service takes ${size(data.maxFileBytes)}: choose a smaller file.`;
    }
    if (bytesOf(files) <= data.maxBytes) return "";
    const [has, takes] = [bytesOf(files), data.maxBytes].map(size);
    return `These ${files.length} files have ${has} together, and the service takes ${takes}: send fewer at once.`;
  }

  show() {
    const { files, data } = this;
    if (!files.length) this.words.textContent = data.invitation;
    else this.words.textContent = files.length === 1 ? files[0].name : `${files.length} files`;
    this.more.textContent = files.length ? size(bytesOf(files)) : data.explanation;
    const pictured = Boolean(this.image.getAttribute("src"));
    this.preview.hidden = !pictured;
    this.hint.hidden = !pictured || !data.drawable;
    this.hint.textContent = this.drawn
      ? "The person in this box is taken. Click the picture to forget the box."
      : "The face says who is meant. Or drag a box around the person.";
    this.box.hidden = !this.drawn || !data.drawable;
    const sending = Boolean(this.request);
    this.go.disabled = sending || !files.length || Boolean(this.tooMuch()) || Boolean(data.missing);
    this.go.title = data.missing ?? "";
    this.stop.hidden = !sending;
    this.bar.hidden = !sending;
  }

  // The box, in pixels of the upright photo

  draw(event) {
    if (!this.data.drawable) return;
    event.preventDefault();
    const frame = this.image.getBoundingClientRect();
    const at = (pointer) => [
      Math.min(frame.width, Math.max(0, pointer.clientX - frame.left)),
      Math.min(frame.height, Math.max(0, pointer.clientY - frame.top)),
    ];
    const [x, y] = at(event);
    this.forgetBox();
    this.preview.setPointerCapture(event.pointerId);
    this.preview.onpointermove = (moved) => {
      const [u, v] = at(moved);
      const [left, top, width, height] = [Math.min(x, u), Math.min(y, v), Math.abs(u - x), Math.abs(v - y)];
      if (width < MIN_BOX || height < MIN_BOX) return;
      Object.assign(this.box.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
      const scale = this.image.naturalWidth / frame.width;
      this.drawn = [left, top, left + width, top + height].map((side) => Math.round(side * scale));
      this.show();
    };
    this.preview.onpointerup = () => {
      this.preview.onpointermove = this.preview.onpointerup = null;
    };
  }

  forgetBox() {
    this.drawn = null;
    this.show();
  }

  // Sending

  send() {
    const form = new FormData();
    for (const [name, values] of Object.entries(this.data.fields)) {
      for (const value of values) form.append(name, value);
    }
    if (this.drawn && this.data.drawable) form.append("box", this.drawn.join(","));
    for (const file of this.files) form.append("file", file, file.name);
    // Not fetch: it does not say how much of the body is sent.
    const request = (this.request = new XMLHttpRequest());
    request.open("POST", fromHere(this.data.url));
    if (this.data.token) request.setRequestHeader("Authorization", `Bearer ${this.data.token}`);
    request.setRequestHeader("Accept", "application/json, application/problem+json");
    request.upload.onprogress = (event) => {
      this.bar.value = event.total ? event.loaded / event.total : 0;
      this.say(event.loaded < event.total ? `sending ${size(event.loaded)} of ${size(event.total)}` : "sent");
    };
    request.onload = () => this.answered(request);
    request.onerror = () => this.ended("The service does not answer, or ended the upload. Is it running?", true);
    request.onabort = () => this.ended("Stopped; nothing was kept.", false);
    this.bar.value = 0;
    this.say("sending…");
    this.show();
    request.send(form);
  }

  answered(request) {
    let said = {};
    try {
      said = JSON.parse(request.responseText);
    } catch {
      // Not JSON: the status says enough.
    }
    if (request.status !== 201) {
      this.ended(said.detail || said.title || `The service answered ${request.status}.`, true);
      return;
    }
    this.files = [];
    this.input.value = "";
    this.image.removeAttribute("src");
    this.drawn = null;
    this.ended("", false);
    this.onSent(said.id);
  }

  ended(text, bad) {
    this.request = null;
    this.say(text, bad);
    this.show();
  }

  say(text, bad = false) {
    this.status.textContent = text;
    this.status.classList.toggle("bad", bad);
  }

  close() {
    this.request?.abort();
    if (this.image.src) URL.revokeObjectURL(this.image.src);
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.__submit ??= new Submit(parentElement);
  parentElement.__submit.update(data, (id) => setTriggerValue("job", id));
  return () => {
    parentElement.__submit?.close();
    delete parentElement.__submit;
  };
}
