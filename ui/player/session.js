// What the components share: talking to the service, and the signalling of player (WHEP) and publisher (WHIP). This file
// is put in front of each component's own.

const GATHER_MS = 1500; // a host without an answer from STUN or TURN must not hold up the candidates it has
const RETRY_FIRST_MS = 500;
const RETRY_LONGEST_MS = 5000;
const HANG_UP_MS = 3000;
const GRACE_MS = 2000; // ICE often recovers from "disconnected" by itself

/** What the service refused, as one line for the user. `status` is the HTTP status. */
class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** A dashboard opened from another machine cannot use the loopback address that its server uses for the service. */
function fromHere(address) {
  const url = new URL(address, location.href);
  const loopback = (host) => /^(localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[::1?\])$/.test(host);
  if (loopback(url.hostname) && !loopback(location.hostname)) url.hostname = location.hostname;
  return url.href;
}

/** Resolves when every candidate is known, or after GATHER_MS with those that are. */
function gathered(pc) {
  if (pc.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

async function refusal(response) {
  let line = `the service answered ${response.status}`;
  try {
    const problem = await response.json();
    line = problem.detail || problem.title || line;
  } catch {
    // Not problem+json: the status says enough.
  }
  return new Refused(line, response.status);
}

/** An address of the service for what cannot send the token, a <video> say: with a token, a link that opens for a while. */
async function linked(address, token) {
  const url = fromHere(address);
  if (!token) return url;
  const root = url.slice(0, url.indexOf("/api/"));
  const response = await fetch(`${root}/api/links`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ paths: [url.slice(root.length)] }),
  });
  if (!response.ok) throw await refusal(response);
  return root + (await response.json()).links[0];
}

/** Offers, takes the answer, and returns the session's address (null where the service names none). */
async function negotiate(pc, address, token) {
  await pc.setLocalDescription(await pc.createOffer());
  await gathered(pc);
  const headers = { "Content-Type": "application/sdp", Accept: "application/sdp, application/problem+json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(address, { method: "POST", headers, body: pc.localDescription.sdp });
  } catch {
    throw new Error("the service does not answer");
  }
  if (!response.ok) throw await refusal(response);
  const where = response.headers.get("Location");
  const session = where ? new URL(where, address).href : null;
  try {
    await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
  } catch (error) {
    hangUp(session, token); // closed while the offer was on its way: nobody else would end it
    throw error;
  }
  return session;
}

/** Ends a session; keepalive lets the request outlive the page. Resolves when it was answered, or was not in time. */
async function hangUp(session, token) {
  if (!session) return;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const signal = AbortSignal.timeout(HANG_UP_MS);
  await fetch(session, { method: "DELETE", headers, keepalive: true, signal }).catch(() => {});
}

/** One wanted connection that is kept up: back-off, count-down, clean end. `open(pc)` adds the media before the offer. */
class Link {
  constructor({ open, onState, onClose = () => {}, giveUp = () => false }) {
    Object.assign(this, { open, onState, onClose, giveUp });
    this.pc = null;
    this.session = null;
    this.timers = new Set();
    this.wait = RETRY_FIRST_MS;
    this.target = null;
  }

  start(target) {
    this.stop();
    this.target = target;
    this.wait = RETRY_FIRST_MS;
    this.connect();
  }

  stop() {
    this.target = null;
    this.drop();
  }

  drop() {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
    if (this.pc) {
      const pc = this.pc;
      this.pc = null;
      this.onClose();
      // Only then closed: the service ends a closed connection's session itself, and the DELETE would find none.
      hangUp(this.session, this.token).then(() => pc.close());
      this.session = null;
    }
  }

  later(action, delay) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      action();
    }, delay);
    this.timers.add(timer);
  }

  async connect() {
    const target = this.target;
    if (!target) return;
    this.onState("connecting", "connecting…");
    const pc = new RTCPeerConnection({ iceServers: target.iceServers ?? [] });
    this.pc = pc;
    this.token = target.token;
    pc.onconnectionstatechange = () => this.changed(pc);
    try {
      await this.open(pc);
      if (this.pc !== pc) return;
      const session = await negotiate(pc, fromHere(target.url), target.token);
      if (this.pc === pc) this.session = session;
      else hangUp(session, target.token);
    } catch (error) {
      if (this.pc === pc) this.failed(error);
    }
  }

  changed(pc) {
    if (this.pc !== pc) return;
    const state = pc.connectionState;
    if (state === "connected") {
      this.wait = RETRY_FIRST_MS;
      this.onState("live", "live");
    } else if (state === "failed" || state === "closed") {
      this.failed(new Error("the connection was lost"));
    } else if (state === "disconnected") {
      this.later(() => {
        if (this.pc === pc && pc.connectionState === "disconnected") this.failed(new Error("the connection was lost"));
      }, GRACE_MS);
    }
  }

  failed(error) {
    this.drop();
    const reason = error.message || String(error);
    if (this.giveUp(error)) {
      this.target = null;
      this.onState("failed", reason);
      return;
    }
    const due = Date.now() + this.wait * (0.8 + 0.4 * Math.random());
    this.wait = Math.min(this.wait * 2, RETRY_LONGEST_MS);
    this.countDown(due, reason);
  }

  countDown(due, reason) {
    const left = due - Date.now();
    if (left <= 0) {
      this.connect();
      return;
    }
    this.onState("reconnecting", `reconnecting in ${Math.max(1, Math.round(left / 1000))} s: ${reason}`);
    this.later(() => this.countDown(due, reason), Math.min(left, 1000));
  }
}
