// The player: plays one stream by WHEP and keeps it up. It lives on its parent element, so that a rerun of the page,
// which calls the function below again, finds it and leaves its connection alone.

const counters = (globalThis.__streamerPlayer ??= { calls: 0, peerConnections: 0, cleanups: 0 });

const STILL_SECONDS = 3;

class Player {
  constructor(root) {
    this.root = root.querySelector(".player");
    this.video = root.querySelector("video");
    this.text = root.querySelector(".text");
    this.facts = root.querySelector(".facts");
    this.empty = root.querySelector(".empty");
    this.wanted = null;
    this.decoded = -1;
    this.counts = []; // pictures decoded, at each of the last seconds
    this.link = new Link({
      open: (pc) => this.open(pc),
      onState: (state, text) => this.show(state, text),
      onClose: () => this.clear(),
    });
    const full = root.querySelector(".full");
    full.hidden = !document.fullscreenEnabled;
    full.onclick = () => this.toggleFull();
    this.video.ondblclick = () => this.toggleFull();
    this.leave = () => this.link.stop();
    addEventListener("pagehide", this.leave);
    this.show("idle", "");
  }

  update(data) {
    this.empty.textContent = data.empty ?? "";
    const wanted = data.url ? JSON.stringify([data.url, data.token ?? null, data.iceServers ?? []]) : null;
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    if (wanted) {
      this.link.start({ url: data.url, token: data.token, iceServers: data.iceServers });
    } else {
      this.link.stop();
      this.show("idle", "");
    }
  }

  open(pc) {
    counters.peerConnections += 1;
    const { receiver } = pc.addTransceiver("video", { direction: "recvonly" });
    // A live picture is shown as it comes: a frame that is late is worth less than the delay that would smooth it.
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
    pc.ontrack = (event) => {
      this.video.srcObject = new MediaStream([event.track]);
      this.video.play().catch(() => {});
    };
    this.decoded = -1;
    this.counts = [];
    this.clock = setInterval(() => this.measure(pc), 1000);
  }

  async measure(pc) {
    const report = await pc.getStats();
    if (this.link.pc !== pc || pc.connectionState !== "connected") return;
    for (const stats of report.values()) {
      if (stats.type !== "inbound-rtp" || stats.kind !== "video") continue;
      this.decoded = stats.framesDecoded ?? 0;
      this.counts = [...this.counts, this.decoded].slice(-STILL_SECONDS - 1);
      const size = stats.frameWidth ? `${stats.frameWidth}×${stats.frameHeight}` : "";
      this.facts.textContent = size ? `${size} · ${Math.round(stats.framesPerSecond ?? 0)} fps` : "";
    }
    // While nothing comes a browser asks for a keyframe now and then, and gets the last picture once more.
    const still = this.counts.length > STILL_SECONDS && this.decoded - this.counts[0] <= 1;
    const waiting = this.decoded <= 0 || still;
    this.show(waiting ? "waiting" : "live", waiting ? "waiting for a picture…" : "live");
  }

  show(state, text) {
    this.root.dataset.state = state;
    this.text.textContent = text;
  }

  clear() {
    clearInterval(this.clock);
    this.facts.textContent = "";
    if (!this.link.target) this.video.srcObject = null;
  }

  toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen?.().catch(() => {});
  }

  close() {
    removeEventListener("pagehide", this.leave);
    this.link.stop();
  }
}

export default function ({ data, parentElement }) {
  counters.calls += 1;
  parentElement.__player ??= new Player(parentElement);
  parentElement.__player.update(data ?? {});
  return () => {
    counters.cleanups += 1;
    parentElement.__player?.close();
    delete parentElement.__player;
  };
}
