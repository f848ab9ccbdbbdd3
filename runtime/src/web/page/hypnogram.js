// The hypnogram: one bar a stretch of equal stage, in rows from awake to deep. Provisional stretches
// are hatched and dashed. A few paths, whatever the night's length.

import { EPOCH_S, STAGES, clock, h, refill, say, span, startOfDay, stageWords } from "/words.js";

const SVG = "http://www.w3.org/2000/svg";
const ENOUGH = 0.8; // part of an epoch's signal
const LEFT = 34, RIGHT = 8, TOP = 18, BOTTOM = 34, BAR = 12;

function node(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Stretches of epochs with one stage and one status, without holes. */
export function bouts(epochs) {
  const found = [];
  for (const epoch of epochs) {
    const provisional = epoch.status === "provisional";
    const last = found.at(-1);
    if (last && last.stage === epoch.stage && last.provisional === provisional && last.end === epoch.epoch) {
      last.end += 1;
    } else {
      found.push({ stage: epoch.stage, provisional, start: epoch.epoch, end: epoch.epoch + 1 });
    }
  }
  return found;
}

/** Minutes in each stage, as a sentence. */
export function summary(epochs, start) {
  if (!epochs.length) return "No epoch yet.";
  const count = {};
  for (const { stage } of epochs) count[stage ?? "?"] = (count[stage ?? "?"] ?? 0) + 1;
  const stages = [...STAGES, "?"].filter((stage) => count[stage])
    .map((stage) => `${stage === "?" ? "not staged" : stage} ${span(count[stage] * EPOCH_S)}`);
  const last = epochs.at(-1);
  const unsure = epochs.filter((epoch) => epoch.status === "provisional").length;
  return `${clock(start, epochs[0].onset_s)} to ${clock(start, last.onset_s + EPOCH_S)}: ${stages.join(", ")}.`
    + (unsure > 1 ? ` The last ${unsure} epochs are provisional.` : unsure ? " The last epoch is provisional." : "");
}

export class Hypnogram {
  constructor(root, bouts) {
    [this.root, this.bouts, this.table] = [root, bouts, bouts.querySelector("div")];
    this.svg = node("svg", { role: "img", "aria-label": "Hypnogram", "aria-describedby": "hyp-summary" });
    root.append(this.svg);
    this.resized = new ResizeObserver(() => this.state && this.draw(this.state));
    this.resized.observe(root);
    bouts.addEventListener("toggle", () => this.state && this.tell());
  }

  close() {
    this.resized.disconnect();
  }

  draw(state) {
    this.state = state;
    const { epochs } = state;
    const width = Math.max(this.root.clientWidth, 200), height = this.svg.clientHeight || 240;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const first = epochs[0]?.epoch ?? 0;
    const known = (state.about?.duration_s ?? 0) / EPOCH_S;
    // The axis grows by the hour where the length is unknown.
    const last = Math.max(known, Math.ceil(((epochs.at(-1)?.epoch ?? 0) + 2) / 120) * 120, first + 120);
    const x = (epoch) => LEFT + (width - LEFT - RIGHT) * (epoch - first) / (last - first);
    const y = (row) => TOP + (height - TOP - BOTTOM) * (row + 0.5) / STAGES.length;
    this.svg.replaceChildren(this.pattern(), ...this.axes(state, { x, y, first, last, width, height }),
      ...this.bars(bouts(epochs), x, y, height), ...this.signs(state, x, height));
    this.tell();
  }

  pattern() {
    return node("defs", {}, ...STAGES.map((stage) => node("pattern", {
      id: `hatch-${stage}`, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)",
    }, node("rect", { width: 2, height: 5, fill: `var(--${stage})` }))));
  }

  axes(state, { x, y, first, last, width, height }) {
    const lines = STAGES.map((stage, row) => [
      node("line", { class: "grid-line", x1: LEFT, x2: width - RIGHT, y1: y(row), y2: y(row) }),
      node("text", { x: 2, y: y(row) + 5 }, stage),
    ]).flat();
    // Full hours of the day, as many as there is room for.
    const day = startOfDay(state.about?.start);
    const offset = Number.isNaN(day) ? 0 : day;
    const every = [0.25, 0.5, 1, 2, 3, 6].find((hours) => (last - first) / 120 / hours * 60 < width) ?? 12;
    const step = every * 3600;
    for (let at = Math.ceil((offset + first * EPOCH_S) / step) * step; at <= offset + last * EPOCH_S; at += step) {
      const place = x((at - offset) / EPOCH_S);
      if (place < LEFT || place > width - 24) continue;
      lines.push(node("line", { class: "grid-line", x1: place, x2: place, y1: TOP, y2: height - BOTTOM }),
        node("text", { class: "faint", x: place, y: height - 6, "text-anchor": "middle" }, clock(state.about?.start, at - offset)));
    }
    return lines;
  }

  bars(all, x, y, height) {
    const settled = {}, unsure = {};
    let risers = "", shade = "", before = null;
    for (const bout of all) {
      const [from, to] = [x(bout.start), x(bout.end)];
      const row = STAGES.indexOf(bout.stage);
      if (row < 0) {
        shade += `M${from.toFixed(1)} ${TOP}H${to.toFixed(1)}V${height - BOTTOM}H${from.toFixed(1)}Z`;
        before = null;
        continue;
      }
      const into = bout.provisional ? unsure : settled;
      const width = Math.max(to - from, 1).toFixed(1);
      into[bout.stage] = `${into[bout.stage] ?? ""}M${from.toFixed(1)} ${(y(row) - BAR / 2).toFixed(1)}h${width}v${BAR}h-${width}Z`;
      if (before && before.end === bout.start) risers += `M${from.toFixed(1)} ${y(STAGES.indexOf(before.stage)).toFixed(1)}V${y(row).toFixed(1)}`;
      before = bout;
    }
    return [
      node("path", { class: "shade", d: shade }), node("path", { class: "riser", d: risers }),
      ...STAGES.flatMap((stage) => [
        node("path", { d: settled[stage] ?? "", fill: `var(--${stage})` }),
        node("path", { d: unsure[stage] ?? "", fill: `url(#hatch-${stage})`, stroke: `var(--${stage})`, "stroke-dasharray": "3 2" }),
      ]),
    ];
  }

  /** Marks, and below the stages where signal is missing. */
  signs(state, x, height) {
    const signs = [];
    for (const mark of state.session.marks) {
      const place = x(mark.onset_s / EPOCH_S);
      signs.push(node("line", { class: "mark", x1: place, x2: place, y1: TOP - 4, y2: height - BOTTOM }),
        node("text", { x: place + 3, y: TOP - 5 }, mark.mark));
    }
    let missing = "";
    for (const { epoch, quality } of state.epochs) {
      if (quality < ENOUGH) missing += `M${x(epoch).toFixed(1)} ${height - BOTTOM + 4}H${x(epoch + 1).toFixed(1)}`;
    }
    signs.push(node("path", { class: "gap", d: missing }));
    return signs;
  }

  /** The night in words, and as a table where that is open. */
  tell() {
    const { epochs, about } = this.state;
    say(document.getElementById("hyp-summary"), summary(epochs, about?.start));
    if (!this.bouts.open) return;
    const all = bouts(epochs).slice(-200).reverse();
    refill(this.table, all, () => [h("table", { className: "data" },
      h("caption", {}, "Stretches of one stage, the newest first"),
      h("thead", {}, h("tr", {}, ...["From", "Stage", "Length", "State"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, ...all.map((bout) => h("tr", {},
        h("td", {}, clock(about?.start, bout.start * EPOCH_S, true)), h("td", {}, stageWords(bout.stage)),
        h("td", {}, span((bout.end - bout.start) * EPOCH_S)), h("td", {}, bout.provisional ? "provisional" : "settled")))))]);
  }
}
