// Words, times and elements. Text from the server becomes text nodes, never markup.

export const STAGES = ["W", "R", "N1", "N2", "N3"]; // as a hypnogram has them, from the top
export const NETWORK_ORDER = ["W", "N1", "N2", "N3", "R"]; // as probabilities come
const WORDS = { W: "Awake", R: "REM sleep", N1: "Light sleep, N1", N2: "Light sleep, N2", N3: "Deep sleep, N3" };
export const PATCH_S = 5;
export const EPOCH_S = 30;

export const stageWords = (stage) => WORDS[stage] ?? "Not staged: too little signal";

/** An element with properties and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Sets text only where it changed, so that nothing is read out or laid out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes `there` what `node` is, but for what its reader has opened. */
function adopt(there, node) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (there.data !== node.data) there.data = node.data;
    return;
  }
  for (const { name, value } of node.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
  for (const { name } of [...there.attributes]) if (name !== "open" && !node.hasAttribute(name)) there.removeAttribute(name);
  morph(there, [...node.childNodes]);
}

/** Gives `element` the children `fresh` by touching what differs alone: what is read, focused or open stays. */
function morph(element, fresh) {
  const old = [...element.childNodes];
  const more = fresh.length - old.length;
  // Lists with the newest first grow at the top.
  if (more > 0 && old.length && old.at(-1).textContent === fresh.at(-1).textContent) element.prepend(...fresh.splice(0, more));
  fresh.forEach((node, i) => {
    if (i >= old.length) element.append(node);
    else if (old[i].nodeName !== node.nodeName) old[i].replaceWith(node);
    else adopt(old[i], node);
  });
  old.slice(fresh.length).forEach((node) => node.remove());
}

/** Renews children where what they stand for changed. */
export function refill(element, key, make) {
  const now = JSON.stringify(key);
  if (element.dataset.key === now) return;
  element.dataset.key = now;
  morph(element, make());
}

const two = (number) => String(Math.floor(number)).padStart(2, "0");

/** Seconds as 1 h 05 min, or 42 s. */
export function span(seconds) {
  if (seconds < 60) return `${+seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

/** The time of day of the recording's start, seconds; NaN where it has none. */
export function startOfDay(start) {
  const found = /T(\d\d):(\d\d):(\d\d)/.exec(start ?? "");
  return found ? found[1] * 3600 + found[2] * 60 + Number(found[3]) : NaN;
}

/** Time of day, or time since the start where that is unknown. */
export function clock(start, onset, withSeconds = false) {
  const day = startOfDay(start);
  const at = Number.isNaN(day) ? Math.max(onset, 0) : (((day + onset) % 86400) + 86400) % 86400;
  const text = `${two(at / 3600)}:${two((at / 60) % 60)}${withSeconds ? `:${two(at % 60)}` : ""}`;
  return Number.isNaN(day) ? `+${text}` : text;
}

export const percent = (part) => (part === null || !Number.isFinite(part) ? "–" : `${Math.round(100 * part)} %`);

/** A device's number without the zeros that it begins with. */
export const shortId = (id) => id.replace(/^0+(?=[0-9a-f])/, "");

/** The parts of a view by their name. */
export function parts(root) {
  return Object.fromEntries([...root.querySelectorAll("[data-is]")].map((part) => [part.dataset.is, part]));
}

/** Calls `work` soon, and once for all calls until then: at most every `every` ms. */
export function soon(work, every) {
  let timer = 0;
  const call = () => { timer ||= setTimeout(() => { timer = 0; work(); }, every); };
  call.stop = () => { clearTimeout(timer); timer = 0; };
  return call;
}
