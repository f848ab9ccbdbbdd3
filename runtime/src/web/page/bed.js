// One bed. Keeps the bed's state as the server tells it, and shows it a few times a second at most.

import { Follow, ask, bedPath } from "/api.js";
import { Hypnogram } from "/hypnogram.js";
import * as panels from "/panels.js";
import { Signals } from "/signals.js";
import { EPOCH_S, clock, parts, say, shortId, soon, stageWords } from "/words.js";

const SHOW_MS = 200;
const SPEAK_MS = 15_000;
const MAX_EPOCHS = 5760, MAX_GAPS = 100, MAX_MARKS = 200, MAX_LOG = 100;

function push(list, item, most) {
  list.push(item);
  if (list.length > most) list.splice(0, list.length - most);
}

/** What a message changes in the state. */
const CHANGES = {
  epoch(state, epoch) {
    const { epochs } = state;
    let place = epochs.length;
    while (place > 0 && epochs[place - 1].epoch > epoch.epoch) place -= 1;
    const known = place > 0 && epochs[place - 1].epoch === epoch.epoch;
    epochs.splice(known ? place - 1 : place, known ? 1 : 0, epoch);
    if (epochs.length > MAX_EPOCHS) epochs.shift();
    if (state.quality && state.quality.epoch < epoch.epoch) state.quality = null;
  },
  quality(state, quality) { state.quality = quality; },
  modality(state, change) {
    state.lost = state.lost.filter((modality) => modality !== change.modality);
    if (!change.present) state.lost.push(change.modality);
  },
  gap(state, gap) {
    const channel = state.gaps.channels[gap.channel] ??= { label: gap.label, gaps: 0, missing_s: 0 };
    channel.gaps += 1;
    channel.missing_s += gap.duration_s;
    push(state.gaps.newest, gap, MAX_GAPS);
  },
  warning(state, { message }) { state.warnings.push(message); },
  night(state, { statistics }) { state.statistics = statistics; },
  mark(state, mark) { push(state.session.marks, mark, MAX_MARKS); },
  log(state, line) { push(state.session.log, line, MAX_LOG); },
  links(state, links) { state.session.links = links; },
  health(state, health) { state.session.health = health; },
  signals(state, extent) { state.signals = extent; },
  ended(state, { reason }) { Object.assign(state, { stretch: "ended", ended: reason, marks_refused: "the session is over" }); },
};

export class BedView {
  constructor(root, bed, page) {
    [this.parts, this.bed, this.page, this.spokenAt] = [parts(root), bed, page, 0];
    this.buttons = [...root.querySelectorAll("[data-mark]")];
    this.buttons.forEach((button) => button.addEventListener("click", () => this.mark(button)));
    this.card = root.querySelector(".now");
    this.hypnogram = new Hypnogram(this.parts.hypnogram, this.parts.bouts);
    this.signals = new Signals(this.parts, bed);
    this.soon = soon(() => this.show(), SHOW_MS);
    say(this.parts.title, `Bed ${shortId(bed)}`);
    this.follow = new Follow(bed, {
      state: (state) => this.take(state),
      message: (name, data) => this.change(name, data),
      link: (link) => { this.link = link; this.page.link(link); this.soon(); },
    });
  }

  close() {
    this.follow.close();
    this.soon.stop();
    this.hypnogram.close();
    this.signals.close();
  }

  take(state) {
    const fresh = state.run !== this.state?.run;
    this.state = state;
    this.page.caution(state.about?.caution);
    this.signals.begin(state, fresh);
    this.show();
  }

  change(name, data) {
    if (!this.state) return;
    CHANGES[name](this.state, data);
    if (name === "signals") this.signals.told(data);
    else this.soon();
  }

  show() {
    const { state } = this;
    this.banner();
    if (!state) return;
    const epoch = state.epochs.at(-1);
    const name = state.origin === "replay" ? state.title : `Bed ${shortId(state.bed)}`;
    say(this.parts.title, name);
    say(this.parts.origin, state.origin === "replay" ? "replay of a recording" : `session ${state.title}`);
    this.now(state, epoch);
    const mark = this.link === "down" ? "⚠ " : state.stretch === "ended" ? "over · " : "";
    document.title = `${mark}${epoch ? epoch.stage ?? "?" : "–"} · ${name}`;
    panels.probabilities(this.parts.probabilities, epoch);
    panels.quality(this.parts, state, epoch);
    panels.links(this.parts.links, state);
    panels.gaps(this.parts.gaps, state);
    panels.marks(this.parts, state);
    panels.log(this.parts.log, this.parts["log-card"], state);
    panels.statistics(this.parts.statistics, this.parts["statistics-card"], state);
    panels.about(this.parts, state);
    this.hypnogram.draw(state);
    this.trouble(state);
    this.buttons.forEach((button) => { button.disabled = Boolean(state.marks_refused) || this.link !== "up" || button === this.marking; });
    if (state.marks_refused) say(this.parts["marks-note"], `No marks: ${state.marks_refused}.`);
    else if (this.parts["marks-note"].textContent.startsWith("No marks")) say(this.parts["marks-note"], "");
  }

  now(state, epoch) {
    const unsure = epoch?.status === "provisional";
    this.card.className = `card now ${epoch?.stage ? `s-${epoch.stage}` : ""} ${unsure ? "unsure" : ""}`;
    say(this.parts.stage.firstElementChild, epoch ? epoch.stage ?? "?" : "–");
    say(this.parts.words, epoch ? stageWords(epoch.stage) : state.stretch === "waiting" ? "waiting for sensors" : "no epoch yet");
    say(this.parts.sure, epoch ? epoch.status : "");
    say(this.parts.when, epoch ? `30 s from ${clock(state.about?.start, epoch.onset_s, true)}` : "");
    // Read out when the stage has changed, and not at every epoch of a fast replay.
    const spoken = epoch && `${stageWords(epoch.stage)}, ${epoch.status}, ${clock(state.about?.start, epoch.onset_s + EPOCH_S, true)}`;
    if (spoken && this.link === "up" && epoch.stage !== this.spokenStage && Date.now() - this.spokenAt > SPEAK_MS) {
      [this.spokenAt, this.spokenStage] = [Date.now(), epoch.stage];
      say(this.parts.spoken, spoken);
    }
  }

  /** Read out when a sensor, a kind of signals or the session's health goes or comes back. */
  trouble(state) {
    const down = state.session.links?.devices.filter((device) => !panels.deviceState(device)[1]) ?? [];
    const health = state.session.health?.status ?? "ok";
    // Without seconds, which would be read out again and again.
    const word = (device) => (device.up ? "sends no samples" : "down");
    const now = [...down.map((device) => `sensor ${shortId(device.device)} ${word(device)}`), ...state.lost.map((modality) => `no signal: ${modality}`),
      ...(health === "ok" || down.length ? [] : [`session ${health}`])].join(", ");
    if (now === (this.troubled ?? "")) return;
    this.troubled = now;
    say(this.parts.trouble, now ? `Attention: ${now}.` : "All signals are back.");
  }

  /** Why the session fails, if it does: the worst comes first. */
  failing() {
    const health = this.state?.session.health;
    // Without seconds, which would be read out again and again.
    return health?.status === "failing" ? health.reasons[0].replace(/ for \d+ s$/, "") : undefined;
  }

  /** What everybody has to see first. */
  banner() {
    const { banner } = this.parts;
    const failing = this.state?.stretch === "ended" ? undefined : this.failing();
    const text = this.link === "down" ? "No connection. What is shown is not the present."
      : this.link === "absent" ? "This bed is not there at the moment."
        : this.state?.stretch === "ended" ? `Over: ${this.state.ended}. What is shown stays.`
          : failing ? `Failing: ${failing}.`
          : this.state?.stretch === "final" ? "The final pass runs over the whole recording; stages may change." : "";
    banner.hidden = !text;
    banner.classList.toggle("over", this.link !== "down" && this.link !== "absent" && !failing);
    say(banner, text);
  }

  async mark(button) {
    const note = this.parts["marks-note"];
    this.marking = button;
    button.disabled = true;
    try {
      await ask(`${bedPath(this.bed)}/marks`, { mark: button.dataset.mark });
      say(note, `${button.textContent}: marked.`);
    } catch (error) {
      say(note, `${button.textContent}: not marked (${error.status ? error.message : "no connection"}).`);
    }
    // A second finger on the button is no second mark.
    setTimeout(() => {
      this.marking = null;
      button.disabled = Boolean(this.state?.marks_refused);
      // Disabled, it lost the focus; who has gone on meanwhile is not called back.
      if (document.activeElement === document.body) button.focus();
    }, 1000);
  }
}
