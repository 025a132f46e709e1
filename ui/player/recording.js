// Plays and downloads a recording straight from the service. A <video> cannot send a token: with one, the file is
// fetched first and played from memory; without, the browser streams it and seeks with Range requests.

class Recording {
  constructor(root) {
    this.video = root.querySelector("video");
    this.status = root.querySelector(".status");
    this.blob = null;
    this.wanted = null;
    root.querySelector(".video").onclick = () => this.save("", ".mp4");
    root.querySelector(".results").onclick = () => this.save("/sidecar", ".jsonl");
    this.video.onerror = () => {
      if (this.video.getAttribute("src")) this.say("This recording cannot be played; it may have been deleted.");
    };
  }

  async update(data) {
    if (data.url === this.wanted) return;
    this.close();
    this.wanted = data.url;
    this.address = fromHere(data.url);
    this.name = data.name;
    this.token = data.token;
    this.say("");
    if (!this.token) {
      this.video.src = this.address;
      return;
    }
    const blob = await this.take("");
    if (blob && this.wanted === data.url) {
      this.blob = URL.createObjectURL(blob);
      this.video.src = this.blob;
    }
  }

  async take(part) {
    this.say("loading…");
    try {
      const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
      const response = await fetch(this.address + part, { headers });
      if (!response.ok) throw await refusal(response);
      const blob = await response.blob();
      this.say("");
      return blob;
    } catch (error) {
      this.say(error instanceof Refused ? error.message : "The service does not answer.");
      return null;
    }
  }

  async save(part, suffix) {
    const blob = await this.take(part);
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = this.name + suffix;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  say(text) {
    this.status.textContent = text;
  }

  close() {
    this.wanted = null;
    this.video.removeAttribute("src");
    this.video.load();
    if (this.blob) URL.revokeObjectURL(this.blob);
    this.blob = null;
  }
}

export default function ({ data, parentElement }) {
  parentElement.__recording ??= new Recording(parentElement);
  parentElement.__recording.update(data);
  return () => {
    parentElement.__recording?.close();
    delete parentElement.__recording;
  };
}
