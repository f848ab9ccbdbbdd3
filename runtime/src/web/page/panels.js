// The panels of a bed that are text: probabilities, quality, links and clocks, gaps, marks, log.

import { NETWORK_ORDER, clock, h, percent, refill, shortId, span, stageWords } from "/words.js";

const pair = (name, value, properties = {}) => [h("dt", {}, name), h("dd", properties, value)];
const table = (caption, columns, rows) => h("table", { className: "data" }, h("caption", {}, caption),
  h("thead", {}, h("tr", {}, ...columns.map((text) => h("th", { scope: "col" }, text)))),
  h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell))))));

export function probabilities(root, epoch) {
  const values = epoch?.probabilities ?? [];
  if (!root.children.length) {
    root.append(...NETWORK_ORDER.map((stage) => h("tr", { className: `s-${stage}` },
      h("th", { scope: "row", title: stageWords(stage) }, stage),
      h("td", {}, h("span", { className: "bar" }, h("i"))), h("td", { className: "percent" }, "–"))));
  }
  const best = Math.max(...values.filter((value) => value !== null));
  [...root.children].forEach((row, i) => {
    const value = values[i] ?? null;
    row.classList.toggle("top-one", value !== null && value === best);
    row.querySelector("i").style.width = `${100 * (value ?? 0)}%`;
    row.querySelector(".percent").textContent = percent(value);
  });
}

const FAULTS = { missing: "missing", flat: "flat", clipped: "clipped", implausible: "implausible", line_noise: "line noise", masked: "not used" };

export function quality({ quality: figures, issues }, state, epoch) {
  const sound = state.quality?.sound ?? (epoch ? 1 : null);
  refill(figures, [epoch?.quality, sound, epoch?.confidence], () => [
    ...pair("Present", percent(epoch?.quality ?? null), { className: `large ${epoch && epoch.quality < 0.8 ? "bad" : ""}` }),
    ...pair("Sound", percent(sound), { className: `large ${sound !== null && sound < 0.8 ? "bad" : ""}` }),
    ...pair("Confidence", epoch ? `${epoch.confidence.toFixed(2)}, to sort epochs by` : "–"),
  ]);
  const lines = state.lost.map((modality) => `${modality}: no signal, left out`);
  for (const channel of state.quality?.channels ?? []) {
    const faults = Object.entries(FAULTS).filter(([key]) => channel[key]).map(([key, word]) => `${word} ${percent(channel[key])}`);
    lines.push(`${channel.label}: ${channel.lead_off ? "lead off; " : ""}${faults.join(", ")}`);
  }
  const shown = lines.slice(0, 8);
  if (lines.length > 8) shown.push(`and ${lines.length - 8} more channels`);
  refill(issues, shown, () => (shown.length ? shown : epoch ? ["No channel has a fault."] : [])
    .map((line) => h("li", { className: shown.length ? "bad" : "" }, line)));
}

const SILENT_S = 10; // as in /healthz

/** How a device is, and whether that is well. */
export function deviceState(device) {
  if (device.ended) return ["ended", true];
  if (!device.up) return ["down", false];
  return device.sample_age_s >= SILENT_S ? [`no samples for ${span(Math.floor(device.sample_age_s))}`, false] : ["up", true];
}

/** Clock and samples of a device. */
function deviceFigures(device) {
  const figures = [];
  if (device.clock_fast_ppm !== null) {
    figures.push(`clock ${Math.abs(device.clock_fast_ppm).toFixed(1)} ppm ${device.clock_fast_ppm < 0 ? "slow" : "fast"}`);
  }
  if (device.round_trip_ms !== null) figures.push(`round trip ${device.round_trip_ms.toFixed(1)} ms`);
  const all = device.lost + device.placed;
  figures.push(device.lost ? `${(100 * device.lost / all).toFixed(2)} % of the samples lost` : "no sample lost");
  if (device.resent) figures.push("some sent again");
  return figures.join(", ");
}

export function links(root, state) {
  if (state.origin === "replay") {
    refill(root, "replay", () => [h("p", {}, "A replay of a file: no sensors, no clocks."),
      h("p", { className: "note" }, "Times are those of the recording.")]);
    return;
  }
  const { links: known, health } = state.session;
  refill(root, [known, health?.status, health?.reasons, health?.recorder], () => {
    const parts = [];
    if (health) {
      const recorder = health.recorder === "on" ? "recording" : health.recorder === "off" ? "not recording" : "recording stopped";
      parts.push(h("p", { className: health.status === "ok" ? "good" : "bad" }, `${health.status === "ok" ? "✓ all well" : `⚠ ${health.status}`} · ${recorder}`));
      parts.push(...health.reasons.map((reason) => h("p", { className: "bad" }, reason)));
    }
    if (!known?.devices.length) return [...parts, h("p", {}, "No sensor has come yet.")];
    parts.push(h("ul", { className: "devices" }, ...known.devices.map((device) => {
      const [words, well] = deviceState(device);
      const className = well ? "good" : "bad";
      return h("li", {}, h("span", { className }, well ? "✓ " : "⚠ "), `Sensor ${shortId(device.device)}: `,
        h("span", { className }, words), h("br"), deviceFigures(device));
    })));
    parts.push(h("p", { className: "note" }, `${known.damaged_frames} damaged frames, ${known.dropped_blocks} blocks dropped here`));
    return parts;
  });
}

export function gaps(root, state) {
  const channels = Object.values(state.gaps.channels);
  refill(root, [channels, state.gaps.newest.at(-1)], () => {
    if (!channels.length) return [h("p", {}, "No sample is missing.")];
    channels.sort((a, b) => b.missing_s - a.missing_s);
    const newest = state.gaps.newest.slice(-50).reverse();
    return [
      table("Missing samples by channel, told when a gap has ended", ["Channel", "Gaps", "Missing"],
        channels.map((channel) => [channel.label, String(channel.gaps), span(channel.missing_s)])),
      h("details", {}, h("summary", {}, `The last ${newest.length} gaps`),
        table("Gaps, the newest first", ["From", "Channel", "Length"],
          newest.map((gap) => [clock(state.about?.start, gap.onset_s, true), gap.label, span(gap.duration_s)]))),
    ];
  });
}

export function marks({ marks: list }, state) {
  const newest = state.session.marks.slice(-20).reverse();
  refill(list, newest, () => newest.map((mark) => h("li", {},
    `${clock(state.about?.start, mark.onset_s, true)}  ${mark.mark}${mark.device ? ` (sensor ${shortId(mark.device)})` : ""}`)));
}

export function log(list, card, state) {
  card.hidden = state.origin === "replay";
  const lines = state.session.log.slice(-100).reverse();
  // By the host's clock, as everything else here, wherever the browser is.
  const time = (line) => (state.about ? clock(state.about.start, line.session_s, true) : new Date(line.utc).toLocaleTimeString());
  refill(list, [lines.length, lines[0], state.about?.start], () => lines.map((line) =>
    h("li", { className: line.trouble ? "bad" : "" }, `${time(line)}  ${line.trouble ? "⚠ " : ""}${line.text}`)));
}

export function statistics(list, card, { statistics: known }) {
  card.hidden = !known;
  if (!known) return;
  const minutes = (value) => (value === null ? "–" : span(value * 60));
  refill(list, known, () => [
    ...pair("Total sleep time", minutes(known.tst_min), { className: "large" }),
    ...pair("Sleep efficiency", known.sleep_efficiency_pct === null ? "–" : `${known.sleep_efficiency_pct.toFixed(0)} %`),
    ...pair("Sleep onset", minutes(known.sol_min)), ...pair("REM latency", minutes(known.rem_latency_min)),
    ...pair("Wake after onset", minutes(known.waso_min)), ...pair("Awakenings", String(known.awakenings)),
  ]);
}

export function about({ about: list, warnings }, state) {
  const known = state.about;
  refill(list, known, () => (known ? [
    ...pair("Bundle", known.bundle), ...pair("Trained on", known.training_data), ...pair("Engine", known.backend),
    ...pair("Start", known.start ?? "unknown"), ...pair("Absent", known.modalities_absent.join(", ") || "none"),
    ...pair("Channels", known.channels.map((channel) => `${channel.label} (${channel.modality})`).join(", ")),
  ] : [...pair("State", "waiting")]));
  refill(warnings, state.warnings, () => state.warnings.map((warning) => h("li", {}, warning)));
}
