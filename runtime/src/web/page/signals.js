// The signals: the newest stretch scrolls by; half an hour can be looked back upon. Patches are
// fetched when the server says that there are some, one request at a time, so that a replay at any
// speed costs no more than it can be looked at.

import { ask, bedPath } from "/api.js";
import { PATCH_S, clock, say } from "/words.js";

const KEPT = 360; // patches: 30 min, as the server
const ROW = 34, GROUP = 18, LABEL = 92, AXIS = 18;
const FRAME_MS = 80, LEVELS_MS = 5000;
const NAMES = { BAS: "EEG and EOG", RESP: "Respiration", EKG: "ECG", EMG: "EMG" };
const MISSING = -32768;

export class Signals {
  constructor(parts, bed) {
    [this.parts, this.canvas, this.bed] = [parts, parts.signals, bed];
    [this.patches, this.scales, this.extent] = [new Map(), new Map(), null];
    // Seconds of the recording: the right edge, where the newest patch that is here ends, and what is looked back upon.
    [this.end, this.here, this.pinned] = [0, 0, null];
    this.channels = [];
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    parts.span.addEventListener("change", () => { this.isLooked = true; this.moved(); });
    parts.back.addEventListener("click", () => this.look(-this.span));
    parts.forth.addEventListener("click", () => this.look(this.span));
    parts.live.addEventListener("click", () => this.look(Infinity));
    this.resized = new ResizeObserver(() => { this.dirty = true; this.wake(); });
    this.resized.observe(this.canvas.parentElement);
  }

  close() {
    this.closed = true;
    this.resized.disconnect();
    clearTimeout(this.timer);
    clearTimeout(this.retry);
  }

  get span() { return Number(this.parts.span.value); }
  get newest() { return (this.extent?.next_patch ?? 0) * PATCH_S; }
  get oldest() { return (this.extent?.first_patch ?? 0) * PATCH_S; }

  /** The channels of a run; `fresh` if it is another run. */
  begin(state, fresh) {
    this.start = state.about?.start;
    this.channels = state.about?.channels ?? [];
    if (fresh) {
      this.patches.clear();
      this.scales.clear();
      [this.end, this.here, this.pinned] = [0, 0, null];
    }
    this.told(state.signals);
  }

  told(extent) {
    this.extent = extent;
    if (this.pinned !== null && this.pinned - this.span < this.oldest - PATCH_S) this.pinned = null;
    this.fetch();
    this.wake();
  }

  look(by) {
    const to = Math.max(Math.min((this.pinned ?? this.here) + by, this.here), Math.min(this.oldest + this.span, this.here));
    this.pinned = to >= this.here ? null : to;
    this.isLooked = true;
    this.moved();
  }

  moved() {
    this.dirty = true;
    this.fetch();
    this.wake();
  }

  /** The first patch that is to be seen and not there; undefined if there is none. */
  wanted() {
    const end = this.pinned ?? this.newest;
    const first = Math.max(Math.floor((end - this.span) / PATCH_S) - 1, this.extent.first_patch, 0);
    for (let patch = first; patch < Math.min(Math.ceil(end / PATCH_S), this.extent.next_patch); patch += 1) {
      if (!this.patches.has(patch)) return patch;
    }
    return undefined;
  }

  async fetch() {
    if (this.fetching || !this.extent?.next_patch) return;
    const from = this.wanted();
    if (from === undefined) return;
    this.fetching = true;
    try {
      const answer = await ask(`${bedPath(this.bed)}/signals?from=${from}`);
      if (this.closed) return;
      for (const patch of answer.patches) this.keep(patch);
      const last = answer.patches.at(-1);
      if (last) this.here = Math.max(this.here, (last.patch + 1) * PATCH_S);
      this.extent = { first_patch: answer.first_patch, next_patch: answer.next_patch };
      // Patches that the server never had are not asked for again.
      for (let patch = from; patch < (answer.patches[0]?.patch ?? answer.next_patch); patch += 1) this.patches.set(patch, null);
      this.dirty = true;
      this.fetching = false;
      this.wake();
      // Gives a fast replay time to be drawn.
      this.retry = setTimeout(() => this.fetch(), 250);
    } catch {
      // The connection is gone: its return brings a new extent.
    } finally {
      this.fetching = false;
    }
  }

  keep(patch) {
    const channels = patch.channels.map(({ channel, scale, points }) =>
      [channel, { scale, points: Int16Array.from(points, (point) => point ?? MISSING) }]);
    this.patches.set(patch.patch, { onset: patch.onset_s, channels: new Map(channels), duration: patch.duration_s });
    for (const old of this.patches.keys()) {
      if (this.patches.size <= KEPT) break;
      this.patches.delete(old);
    }
  }

  wake() {
    this.timer ||= setTimeout(() => requestAnimationFrame(() => this.frame()), FRAME_MS);
  }

  frame() {
    this.timer = 0;
    if (this.closed) return;
    const now = performance.now();
    const passed = Math.min((now - (this.drawn ?? now)) / 1000, 1);
    this.drawn = now;
    const target = this.pinned ?? this.here;
    const behind = target - this.end;
    // As fast as the night where that is possible, else at once.
    const jump = this.calm.matches || this.pinned !== null || behind < 0 || behind > 2 * PATCH_S + 1;
    const end = jump ? target : Math.min(target, this.end + passed * (behind > PATCH_S + 0.5 ? 1.5 : 1));
    if (end !== this.end || this.dirty) {
      this.end = end;
      this.dirty = false;
      this.draw();
    }
    if (this.end < target) this.wake();
  }

  draw() {
    const groups = Object.keys(NAMES).map((key) => [key, this.channels.filter((c) => c.modality === key)]).filter(([, c]) => c.length);
    const height = groups.reduce((sum, [, channels]) => sum + GROUP + channels.length * ROW, AXIS + 4);
    const width = this.canvas.parentElement.clientWidth - 32;
    const dpr = Math.min(devicePixelRatio || 1, 2);
    if (this.canvas.width !== Math.round(width * dpr) || this.canvas.height !== Math.round(height * dpr)) {
      [this.canvas.width, this.canvas.height] = [Math.round(width * dpr), Math.round(height * dpr)];
      this.canvas.style.height = `${height}px`;
    }
    const style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(name).trim();
    const draw = this.canvas.getContext("2d");
    draw.setTransform(dpr, 0, 0, dpr, 0, 0);
    draw.clearRect(0, 0, width, height);
    const view = { draw, width, height, left: width < 500 ? 70 : LABEL, from: this.end - this.span };
    this.grid(view, color);
    let top = 0;
    for (const [key, channels] of groups) {
      draw.fillStyle = color("--faint");
      draw.font = "600 12px system-ui, sans-serif";
      draw.fillText(NAMES[key], 0, top + 13);
      top += GROUP;
      for (const channel of channels) {
        this.row(view, channel, top + ROW / 2, color);
        top += ROW;
      }
    }
    const what = groups.map(([key, channels]) => `${channels.length} ${NAMES[key]}`).join(", ");
    const label = this.here ? `Signals: ${what}; ${this.span} s up to ${clock(this.start, this.end)}` : "Signals: none yet";
    if (this.canvas.getAttribute("aria-label") !== label) this.canvas.setAttribute("aria-label", label);
    if (this.isLooked) say(this.parts.looked, label);
    this.isLooked = false;
    this.levels(groups);
    const live = this.pinned === null;
    this.parts.live.setAttribute("aria-pressed", String(live));
    this.parts.forth.disabled = live;
    this.parts.back.disabled = this.end - this.span <= this.oldest;
  }

  /** What has a level rather than waves, as SpO2, in words: the picture shows it to those who see it. */
  levels(groups) {
    if (performance.now() - (this.toldAt ?? -Infinity) < LEVELS_MS) return;
    this.toldAt = performance.now();
    const known = groups.flatMap(([, channels]) => channels).map(({ channel, label, unit }) => [label, this.level(channel), unit]);
    const text = known.filter(([, level]) => level !== null).map(([label, level, unit]) => `${label} ${level} ${unit}`.trim()).join(", ");
    say(this.parts.levels, text ? `Levels: ${text}` : "");
  }

  /** The level of a channel that does not swing about zero; null of the others. */
  level(channel) {
    const { middle, half } = this.scales.get(channel) ?? { middle: 0, half: 1 };
    return Math.abs(middle) > 4 * half ? +middle.toPrecision(3) : null;
  }

  grid({ draw, width, height, left, from }, color) {
    const every = { 10: 1, 30: 5, 60: 10, 300: 30 }[this.span];
    draw.strokeStyle = color("--grid");
    draw.fillStyle = color("--faint");
    draw.font = "11px system-ui, sans-serif";
    draw.lineWidth = 1;
    draw.textAlign = "center";
    let written = -Infinity;
    draw.beginPath();
    for (let at = Math.ceil(Math.max(from, 0) / every) * every; at <= this.end; at += every) {
      const x = left + (at - from) / this.span * (width - left);
      draw.moveTo(x, 0);
      draw.lineTo(x, height - AXIS);
      if (x - written > 64 && x > left + 24 && x < width - 26) {
        draw.fillText(clock(this.start, at, true), x, height - 5);
        written = x;
      }
    }
    draw.stroke();
    draw.textAlign = "left";
  }

  /** The patches of a channel that are in view. */
  * inView(channel) {
    const first = Math.floor((this.end - this.span) / PATCH_S);
    for (let index = Math.max(first, 0); index * PATCH_S < this.end; index += 1) {
      const patch = this.patches.get(index);
      const points = patch?.channels.get(channel);
      if (points?.points.length) yield [patch, points];
    }
  }

  /** Middle and half height of a channel in physical units; the height in steps of 1, 2 and 5. */
  scale(channel) {
    const values = [];
    for (const [, { scale, points }] of this.inView(channel)) {
      for (let i = values.length % 7; i < points.length; i += 13) if (points[i] !== MISSING) values.push(points[i] * scale);
    }
    if (values.length < 8) return this.scales.get(channel) ?? { middle: 0, half: 1 };
    values.sort((a, b) => a - b);
    const at = (part) => values[Math.floor(part * (values.length - 1))];
    const [low, high] = [at(0.02), at(0.98)];
    const wanted = Math.max((high - low) / 2, Math.abs(high) * 1e-3, 1e-9);
    let half = this.scales.get(channel)?.half ?? 0;
    if (wanted > half || wanted < half / 3) {
      const ten = 10 ** Math.floor(Math.log10(wanted));
      half = [1, 2, 5, 10].find((step) => step * ten >= wanted) * ten;
    }
    const scale = { middle: (low + high) / 2, half };
    this.scales.set(channel, scale);
    return scale;
  }

  row({ draw, width, left, from }, { channel, label, unit }, y, color) {
    const { middle, half } = this.scale(channel);
    draw.fillStyle = color("--text");
    draw.font = "12px system-ui, sans-serif";
    draw.fillText(label, 0, y, left - 6);
    draw.fillStyle = color("--faint");
    draw.font = "10px system-ui, sans-serif";
    const level = this.level(channel);
    draw.fillText(`${level === null ? "" : `${level} `}±${+half.toPrecision(2)} ${unit}`, 0, y + 12, left - 6);
    draw.save();
    draw.beginPath();
    draw.rect(left, y - ROW * 0.8, width - left, ROW * 1.6);
    draw.clip();
    draw.strokeStyle = color("--trace");
    draw.lineWidth = 1;
    draw.lineJoin = "round";
    draw.beginPath();
    for (const [patch, { scale, points }] of this.inView(channel)) {
      const step = patch.duration / points.length;
      let pen = false;
      for (let i = 0; i < points.length; i += 1) {
        if (points[i] === MISSING) {
          pen = false;
          continue;
        }
        const x = left + (patch.onset + i * step - from) / this.span * (width - left);
        const at = y - (points[i] * scale - middle) / half * ROW * 0.45;
        if (pen) draw.lineTo(x, at);
        else draw.moveTo(x, at);
        pen = true;
      }
    }
    draw.stroke();
    draw.restore();
  }
}
