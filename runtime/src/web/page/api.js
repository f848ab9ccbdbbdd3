// The server: requests, and a bed's messages with all that can happen to them on the way.

const SILENCE_MS = 25_000; // the server gives a sign of life every 10 s
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000, 30_000];

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(20_000) });
  if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim().slice(0, 200));
  return answer.headers.get("content-type")?.startsWith("application/json") ? answer.json() : undefined;
}

export const bedPath = (bed) => `/api/beds/${encodeURIComponent(bed)}`;

const NAMES = ["epoch", "quality", "modality", "gap", "warning", "night", "mark", "log", "links", "health", "signals"];

/**
 * Follows a bed: `on.state` gets everything, `on.message` what changes, `on.link` how the connection
 * is ("up", "down", "ended", "absent", "token"). Comes again by itself for as long as it is open.
 */
export class Follow {
  constructor(bed, on) {
    [this.bed, this.on, this.tries, this.run] = [bed, on, 0, null];
    this.load();
  }

  close() {
    this.closed = true;
    this.stop();
  }

  stop() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
    clearTimeout(this.silence);
  }

  async load() {
    this.stop();
    let state;
    try {
      state = await ask(bedPath(this.bed));
    } catch (error) {
      if (this.closed) return;
      if (error.status === 401) this.on.link("token");
      else if (!this.over) this.on.link(error.status === 404 ? "absent" : "down");
      this.again();
      return;
    }
    if (this.closed) return;
    this.over = state.stretch === "ended";
    if (state.run !== this.run || !this.over) this.on.state(state);
    this.run = state.run;
    if (this.over) {
      // What is shown stays. Another run may begin in this place.
      this.on.link("ended");
      this.again();
    } else {
      this.listen(state.last_id);
    }
  }

  again() {
    if (this.closed) return;
    const wait = BACKOFF_MS[Math.min(this.tries++, BACKOFF_MS.length - 1)];
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), wait);
  }

  listen(after) {
    // After a break the browser comes again by itself and repeats the last id that it had.
    this.source = new EventSource(`${bedPath(this.bed)}/events?after=${encodeURIComponent(after)}`);
    this.source.onopen = () => {
      this.tries = 0;
      this.heard();
      this.on.link("up");
    };
    this.source.onerror = () => {
      this.on.link("down");
      if (this.source?.readyState === EventSource.CLOSED) this.again();
    };
    const take = (name, then) => this.source.addEventListener(name, (message) => {
      this.heard();
      then(JSON.parse(message.data));
    });
    take("alive", () => {});
    take("reset", () => this.load());
    take("started", () => this.load());
    take("ended", (data) => {
      this.over = true;
      this.stop();
      this.on.message("ended", data);
      this.on.link("ended");
      this.again();
    });
    for (const name of NAMES) take(name, (data) => this.on.message(name, data));
  }

  heard() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.on.link("down");
      this.load();
    }, SILENCE_MS);
  }
}
