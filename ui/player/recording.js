// Plays and downloads a video straight from the service, with who is in it when. The browser streams it and seeks with
// Range requests. A <video> cannot send a token: where there is one, it gets a link instead, and a new one when that ends.

const ICONS = {
  play: "M8 5v14l11-7z",
  pause: "M6 5h4v14H6zM14 5h4v14h-4z",
  sound: "M4 9v6h4l5 5V4L8 9zM16 8.5v7a4 4 0 0 0 0-7z",
  muted: "M4 9v6h4l5 5V4L8 9zM22 9.4 20.6 8 18.5 10.1 16.4 8 15 9.4 17.1 11.5 15 13.6 16.4 15 18.5 12.9 20.6 15 22 13.6 19.9 11.5z",
  full: "M5 5h5v2H7v3H5zM14 5h5v5h-2V7h-3zM5 14h2v3h3v2H5zM17 14h2v5h-5v-2h3z",
};
const COLOURS = ["#3d8bfd", "#2fbf71", "#f0883e", "#a97bff", "#e6638f", "#26b8c4", "#c9a227", "#7a8b99"];
const UNNAMED = "#8a94a0";
const STEP_SECONDS = 1;
const FINE_SECONDS = 20; // shorter videos are told in tenths of a second
const RENEW_MS = 3000; // a link that fails sooner has not expired: the video is the matter
const APART_SECONDS = 0.12; // the two pictures of a comparison are brought together when they are further apart

const icon = (name) => `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 0.05));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

class Recording {
  constructor(root) {
    const find = (selector) => root.querySelector(selector);
    Object.assign(this, { stage: find(".stage"), video: find(".after"), before: find(".before"), wipe: find(".wipe") });
    Object.assign(this, { plot: find(".plot"), rows: find(".rows"), head: find(".head"), names: find(".names") });
    Object.assign(this, { time: find(".time"), feet: find(".feet"), status: find(".status") });
    Object.assign(this, { playButton: find(".play"), muteButton: find(".mute"), downloads: find(".downloads") });
    this.tags = [find(".tag.left"), find(".tag.right")];
    this.wanted = null;
    this.links = new Map(); // of each video: its address without the signature, and when it was loaded
    this.offset = 0;
    this.listen(find(".full"));
  }

  listen(full) {
    const video = this.video;
    full.innerHTML = icon("full");
    full.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : this.stage.requestFullscreen());
    this.playButton.onclick = () => this.toggle();
    this.stage.onclick = (event) => event.target === this.wipe || this.toggle();
    this.muteButton.onclick = () => {
      video.muted = !video.muted;
      this.show();
    };
    // timeupdate comes four times a second; the playhead moves as smoothly as the picture.
    video.addEventListener("play", () => this.follow());
    for (const event of ["play", "pause", "seeked", "timeupdate", "loadedmetadata", "ended"]) {
      video.addEventListener(event, () => this.show());
    }
    video.addEventListener("loadedmetadata", () => this.draw());
    video.onerror = () => {
      if (!video.getAttribute("src") || this.renew(video)) return;
      this.say("This video cannot be played; it may have been deleted.");
    };
    this.before.onerror = () => {
      if (!this.before.getAttribute("src") || this.renew(this.before)) return;
      this.compare(false);
      this.say("The browser cannot play the original, so it is not shown beside.");
    };
    this.before.addEventListener("loadedmetadata", () => this.compare(true));
    drag(this.plot, (share) => this.seek(share * this.length()));
    drag(this.wipe, (share) => this.divide(share), this.stage);
    this.plot.onkeydown = (event) => {
      const steps = { ArrowLeft: -STEP_SECONDS, ArrowRight: STEP_SECONDS };
      if (event.key === " ") this.toggle();
      else if (event.key in steps) this.seek(video.currentTime + steps[event.key]);
      else return;
      event.preventDefault();
    };
    this.wipe.onkeydown = (event) => {
      const steps = { ArrowLeft: -0.05, ArrowRight: 0.05 };
      if (event.key in steps) this.divide((this.share ?? 0.5) + steps[event.key]);
    };
  }

  async update(data) {
    const wanted = JSON.stringify([data.url, data.before?.url, data.token]);
    this.timeline = data.timeline;
    this.offset = data.before?.offset ?? 0;
    if (wanted === this.wanted) {
      this.draw();
      return;
    }
    this.close();
    this.wanted = wanted;
    this.token = data.token;
    this.stage.classList.toggle("alpha", Boolean(data.alpha));
    this.offer(data.downloads ?? []);
    this.draw();
    this.say("");
    await this.load(this.video, data.url, wanted);
    if (data.before && this.wanted === wanted) await this.load(this.before, data.before.url, wanted);
  }

  async load(video, url, wanted) {
    try {
      const address = await linked(url, this.token);
      if (this.wanted !== wanted) return;
      this.links.set(video, { url, at: Date.now() });
      video.src = address;
    } catch (error) {
      if (this.wanted === wanted) this.say(error instanceof Refused ? error.message : "The service does not answer.");
    }
  }

  /** Whether a video that failed is loaded again, under a new link, to go on where it was. */
  renew(video) {
    const link = this.links.get(video);
    if (!this.token || !link || Date.now() - link.at < RENEW_MS) return false;
    const [position, played] = [video.currentTime, !video.paused];
    const goOn = () => {
      video.currentTime = position;
      if (played) video.play().catch(() => {});
    };
    video.addEventListener("loadedmetadata", goOn, { once: true });
    this.load(video, link.url, this.wanted);
    return true;
  }

  async take(url) {
    this.say("loading…");
    try {
      const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
      const response = await fetch(fromHere(url), { headers });
      if (!response.ok) throw await refusal(response);
      const blob = await response.blob();
      this.say("");
      return blob;
    } catch (error) {
      this.say(error instanceof Refused ? error.message : "The service does not answer.");
      return null;
    }
  }

  offer(downloads) {
    this.downloads.replaceChildren(
      ...downloads.map(({ label, url, name }) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = label;
        button.onclick = () => this.save(url, name);
        return button;
      }),
    );
  }

  async save(url, name) {
    const blob = await this.take(url);
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  // The picture and its position

  length() {
    const duration = this.video.duration;
    return Number.isFinite(duration) && duration > 0 ? duration : this.timeline?.duration_seconds || 0;
  }

  toggle() {
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  follow() {
    this.show();
    if (!this.video.paused && this.wanted) requestAnimationFrame(() => this.follow());
  }

  seek(seconds) {
    if (!this.length()) return;
    this.video.currentTime = Math.min(Math.max(0, seconds), Math.max(0, this.length() - 0.01));
    this.show();
  }

  show() {
    const { video, before } = this;
    const length = this.length();
    this.playButton.disabled = video.readyState < 1;
    this.playButton.innerHTML = icon(video.paused ? "play" : "pause");
    this.playButton.setAttribute("aria-label", video.paused ? "Play" : "Pause");
    const sounds = video.mozHasAudio || video.webkitAudioDecodedByteCount > 0 || video.audioTracks?.length > 0;
    this.muteButton.hidden = !sounds && !video.muted;
    this.muteButton.innerHTML = icon(video.muted ? "muted" : "sound");
    const told = (seconds) => (length < FINE_SECONDS ? seconds.toFixed(1) : clock(seconds));
    this.time.textContent = length ? `${told(video.currentTime)} / ${told(length)}${length < FINE_SECONDS ? " s" : ""}` : "–:––";
    this.head.style.left = length ? `${(100 * video.currentTime) / length}%` : "0";
    this.plot.setAttribute("aria-valuemax", length.toFixed(1));
    this.plot.setAttribute("aria-valuenow", video.currentTime.toFixed(1));
    if (before.hidden || !before.readyState) return;
    if (Math.abs(before.currentTime - video.currentTime - this.offset) > APART_SECONDS) {
      before.currentTime = video.currentTime + this.offset;
    }
    if (video.paused !== before.paused) {
      if (video.paused) before.pause();
      else before.play().catch(() => {});
    }
  }

  // Before and after: one over the other where they have the same shape, else beside each other

  compare(on) {
    const { video, before, stage } = this;
    if (on && !video.videoWidth) {
      video.addEventListener("loadedmetadata", () => this.compare(true), { once: true });
      return;
    }
    const shape = (picture) => picture.videoWidth / picture.videoHeight;
    const over = on && Math.abs(shape(video) / shape(before) - 1) < 0.03;
    before.hidden = !on;
    stage.classList.toggle("wiped", on && over);
    stage.classList.toggle("beside", on && !over);
    this.wipe.hidden = !over;
    for (const tag of this.tags) tag.hidden = !on;
    if (over) this.divide(0.5);
    this.show();
  }

  divide(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.stage.style.setProperty("--wipe", `${100 * this.share}%`);
    this.wipe.setAttribute("aria-valuenow", Math.round(100 * this.share));
  }

  // Who is in it when

  draw() {
    const length = this.length();
    const people = length ? (this.timeline?.people ?? []) : [];
    let number = 0;
    const rows = [];
    const names = [];
    for (const person of people) {
      const name = document.createElement("span");
      name.textContent = person.name ?? "unknown";
      name.title = name.textContent;
      const total = document.createElement("small");
      total.textContent = length < FINE_SECONDS ? `${person.seconds.toFixed(1)} s` : clock(person.seconds);
      name.append(total);
      names.push(name);
      const row = document.createElement("div");
      row.dataset.name = person.name ?? "";
      row.style.setProperty("--colour", person.name === null ? UNNAMED : COLOURS[number++ % COLOURS.length]);
      for (const [from, to] of person.intervals) {
        const bar = document.createElement("i");
        bar.style.left = `${(100 * from) / length}%`;
        bar.style.width = `${(100 * Math.min(to - from, length - from)) / length}%`;
        bar.title = `${name.title}: ${clock(from)} to ${clock(to)}`;
        row.append(bar);
      }
      rows.push(row);
    }
    this.rows.replaceChildren(...rows);
    this.names.replaceChildren(...names);
    const feet = length ? [0, 0.25, 0.5, 0.75, 1] : [];
    this.feet.replaceChildren(
      ...feet.map((share) => {
        const tick = document.createElement("span");
        tick.textContent = length < FINE_SECONDS ? `${(share * length).toFixed(1)} s` : clock(share * length);
        return tick;
      }),
    );
    this.show();
  }

  say(text) {
    this.status.textContent = text;
  }

  close() {
    this.wanted = null;
    for (const video of [this.video, this.before]) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
    this.links = new Map();
    this.compare(false);
  }
}

/** Calls `onShare` with the place of the pointer in `area`, 0..1 from the left, at a press and while it is dragged. */
function drag(handle, onShare, area = handle) {
  const tell = (event) => {
    const box = area.getBoundingClientRect();
    onShare(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  handle.onpointerdown = (event) => {
    handle.setPointerCapture(event.pointerId);
    tell(event);
  };
  handle.onpointermove = (event) => handle.hasPointerCapture(event.pointerId) && tell(event);
}

export default function ({ data, parentElement }) {
  parentElement.__recording ??= new Recording(parentElement);
  parentElement.__recording.update(data);
  return () => {
    parentElement.__recording?.close();
    delete parentElement.__recording;
  };
}
