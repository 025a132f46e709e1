// The publisher: sends this browser's camera by WHIP and keeps the connection up until it is stopped.

const publishing = (globalThis.__streamerPublisher ??= { calls: 0, peerConnections: 0, cleanups: 0 });
const MAX_BIT_RATE = 6_000_000; // bits per second; browsers start near 0.3 Mb/s and 480x270 if left alone
const WANTED = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };

function cameraTrouble(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser may not use the camera. Allow it beside the address bar, then share again.";
    case "NotFoundError":
      return "No camera was found on this device. Plug one in, then share again.";
    case "NotReadableError":
      return "The camera is in use by another program. Close that, then share again.";
    case "OverconstrainedError":
      return "The chosen camera is gone. Choose another, then share again.";
    default:
      return `The camera cannot be opened: ${error.message || error.name}`;
  }
}

class Publisher {
  constructor(root) {
    this.root = root.querySelector(".publisher");
    this.video = root.querySelector("video");
    this.go = root.querySelector(".go");
    this.device = root.querySelector(".device");
    this.status = root.querySelector(".status");
    this.camera = null;
    this.wanted = null;
    this.opening = false;
    this.link = new Link({
      open: (pc) => this.open(pc),
      onState: (state, text) => {
        // Refused for good: the camera is let go, so that its light goes out; the reason stays on the page.
        if (state === "failed") this.stop(text, state);
        else this.show(state, state === "live" ? "sending" : text);
      },
      onClose: () => clearInterval(this.clock),
      // A refusal (somebody else publishes, the stream is gone, no token) does not get better by asking again.
      giveUp: (error) => error.status >= 400 && error.status < 500 && error.status !== 429,
    });
    this.go.onclick = () => (this.camera ? this.stop("") : this.start());
    this.device.onchange = () => this.start();
    this.leave = () => this.stop("");
    addEventListener("pagehide", this.leave);
  }

  update(data) {
    const wanted = JSON.stringify([data.url, data.token ?? null, data.iceServers ?? []]);
    if (wanted === this.wanted) return;
    if (this.wanted) this.stop("");
    this.wanted = wanted;
    this.target = { url: data.url, token: data.token, iceServers: data.iceServers };
    if (data.autostart) this.start();
  }

  async start() {
    if (this.opening) return;
    if (!navigator.mediaDevices?.getUserMedia) {
      this.show("failed", `Browsers give the camera to https pages and to localhost only; this page is ${location.origin}.`);
      return;
    }
    this.opening = true;
    this.stop("");
    this.show("connecting", "opening the camera…");
    const wanted = this.wanted;
    const chosen = this.device.value ? { deviceId: { exact: this.device.value } } : {};
    try {
      const camera = await navigator.mediaDevices.getUserMedia({ video: { ...WANTED, ...chosen }, audio: false });
      if (wanted !== this.wanted) {
        for (const track of camera.getTracks()) track.stop(); // another stream was chosen meanwhile, or the page left
        return;
      }
      this.take(camera);
    } catch (error) {
      this.show("failed", cameraTrouble(error));
    } finally {
      this.opening = false;
    }
    await this.listDevices();
  }

  take(camera) {
    this.camera = camera;
    this.video.srcObject = camera;
    this.root.dataset.camera = "";
    this.go.textContent = "Stop sharing";
    camera.getVideoTracks()[0].onended = () => this.stop("The camera stopped.", "failed");
    this.link.start(this.target);
  }

  async open(pc) {
    publishing.peerConnections += 1;
    const track = this.camera.getVideoTracks()[0];
    const transceiver = pc.addTransceiver(track, {
      direction: "sendonly",
      streams: [this.camera],
      sendEncodings: [{ maxBitrate: MAX_BIT_RATE }],
    });
    const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
    const first = codecs.filter((codec) => codec.mimeType.toLowerCase() === "video/h264");
    if (first.length) transceiver.setCodecPreferences([...first, ...codecs.filter((codec) => !first.includes(codec))]);
    this.sent = null;
    this.clock = setInterval(() => this.measure(pc), 1000);
    const parameters = transceiver.sender.getParameters();
    parameters.degradationPreference = "maintain-resolution";
    await transceiver.sender.setParameters(parameters).catch(() => {}); // not in every browser
  }

  async measure(pc) {
    const report = await pc.getStats();
    if (this.link.pc !== pc || pc.connectionState !== "connected") return;
    for (const stats of report.values()) {
      if (stats.type !== "outbound-rtp" || stats.kind !== "video") continue;
      const before = this.sent;
      this.sent = { bytes: stats.bytesSent, at: stats.timestamp };
      if (!before || !stats.frameWidth) continue;
      const rate = ((stats.bytesSent - before.bytes) * 8) / (stats.timestamp - before.at) / 1000;
      const frames = Math.round(stats.framesPerSecond ?? 0);
      const told = rate < 1 ? `${Math.round(1000 * rate)} kb/s` : `${rate.toFixed(1)} Mb/s`;
      this.show("live", `sending ${stats.frameWidth}×${stats.frameHeight} · ${frames} fps · ${told}`);
    }
  }

  async listDevices() {
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "videoinput" && d.deviceId);
    const used = this.camera?.getVideoTracks()[0]?.getSettings().deviceId ?? this.device.value;
    this.device.replaceChildren(
      ...devices.map((d, i) => new Option(d.label || `Camera ${i + 1}`, d.deviceId, false, d.deviceId === used)),
    );
    this.device.hidden = devices.length < 2;
  }

  stop(text, state = "idle") {
    this.link.stop();
    for (const track of this.camera?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this.camera = null;
    this.video.srcObject = null;
    delete this.root.dataset.camera;
    this.go.textContent = "Share camera";
    this.show(state, text);
  }

  show(state, text) {
    this.root.dataset.state = state;
    this.status.textContent = text;
  }

  close() {
    removeEventListener("pagehide", this.leave);
    this.wanted = null;
    this.stop("");
  }
}

export default function ({ data, parentElement }) {
  publishing.calls += 1;
  parentElement.__publisher ??= new Publisher(parentElement);
  parentElement.__publisher.update(data ?? {});
  return () => {
    publishing.cleanups += 1;
    parentElement.__publisher?.close();
    delete parentElement.__publisher;
  };
}
