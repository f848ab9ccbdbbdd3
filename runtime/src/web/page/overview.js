// All beds of the program: stage, state and the last two hours of each.

import { ask } from "/api.js";
import { STAGES, clock, h, parts, refill, say, shortId, span, stageWords } from "/words.js";

const EVERY_MS = 2000;
const STRETCH = { waiting: "waiting for sensors", live: "live", final: "final pass", ended: "over" };
const LETTER = { W: "W", 1: "N1", 2: "N2", 3: "N3", R: "R" };
const SVG = "http://www.w3.org/2000/svg";

/** The last two hours as a line; what is not staged is a hole. */
function recent(letters) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 -0.5 240 5");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("class", "recent");
  let d = "";
  [...letters].forEach((letter, i) => {
    const y = STAGES.indexOf(LETTER[letter]);
    const x = 240 - letters.length + i;
    if (y >= 0) d += `${d && letters[i - 1] !== "?" ? "L" : "M"}${x} ${y}h1`;
  });
  path.setAttribute("d", d);
  svg.append(path);
  return svg;
}

function card(bed) {
  const epoch = bed.newest;
  const stage = epoch?.stage ?? null;
  const unsure = epoch?.status === "provisional" && bed.stretch === "live";
  const state = [STRETCH[bed.stretch]];
  if (epoch) state.push(`${clock(bed.start, epoch.onset_s)}`);
  const trouble = [];
  if (bed.lost.length) trouble.push(`no signal: ${bed.lost.join(", ")}`);
  if (bed.health && bed.health.status !== "ok") trouble.push(...bed.health.reasons);
  if (bed.missing_s >= 1) state.push(`${span(bed.missing_s)} missing`);
  if (bed.last_mark) state.push(`${bed.last_mark.mark} ${clock(bed.start, bed.last_mark.onset_s)}`);
  return h("li", {}, h("a", {
    className: `card ${stage ? `s-${stage}` : ""} ${unsure ? "unsure" : ""}`, href: `#/bed/${encodeURIComponent(bed.bed)}`,
  },
  h("span", { className: "name" }, bed.origin === "replay" ? bed.title : `Bed ${shortId(bed.bed)}`),
  " ", h("span", { className: "letter", "aria-hidden": "true" }, epoch ? stage ?? "?" : "–"),
  " ", h("span", { className: "words" }, epoch ? `${stageWords(stage)}${unsure ? ", provisional" : ""}` : "no epoch yet"),
  recent(bed.recent),
  " ", h("span", { className: "more note" }, state.join(" · ")),
  ...trouble.flatMap((text) => [" ", h("span", { className: "more bad" }, `⚠ ${text}`)])));
}

export class Overview {
  constructor(root, page, mayJump) {
    [this.parts, this.page, this.mayJump] = [parts(root), page, mayJump];
    document.title = "Beds · SleepFM live";
    this.load();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }

  async load() {
    try {
      const { beds } = await ask("/api/beds");
      if (this.closed) return;
      this.page.link("up");
      this.failures = 0;
      if (this.mayJump && beds.length === 1) {
        location.replace(`#/bed/${encodeURIComponent(beds[0].bed)}`);
        return;
      }
      this.mayJump = false;
      this.show(beds);
    } catch (error) {
      if (this.closed) return;
      this.failures = (this.failures ?? 0) + 1;
      this.page.link(error.status === 401 ? "token" : "down");
    }
    if (!this.closed) this.timer = setTimeout(() => this.load(), Math.min(EVERY_MS * 2 ** (this.failures ?? 0), 30_000));
  }

  show(beds) {
    this.parts.none.hidden = beds.length > 0;
    say(this.parts.none, "No session has begun.");
    refill(this.parts.beds, beds, () => beds.map(card));
  }
}

