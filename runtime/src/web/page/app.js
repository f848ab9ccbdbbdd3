// Which view is shown: the address behind '#' says it. '#/beds' is the overview, '#/bed/ID' a bed.

import { ask } from "/api.js";
import { BedView } from "/bed.js";
import { Overview } from "/overview.js";
import { say } from "/words.js";

const main = document.getElementById("main");
const chip = document.getElementById("link");
let view = null;

const LINK = { up: "connected", down: "no connection, trying again", ended: "run over", absent: "no such bed at the moment", token: "token needed" };

const page = {
  link(state) {
    say(chip, LINK[state] ?? state);
    chip.className = `chip ${state === "up" ? "up" : state === "down" || state === "absent" ? "down" : ""}`;
    if (state === "token") logIn();
  },
  caution(text) {
    const caution = document.getElementById("caution");
    caution.hidden = !text;
    say(caution, text ?? "");
  },
};

function show(template) {
  main.replaceChildren(document.getElementById(template).content.cloneNode(true));
  main.querySelector("h1").tabIndex = -1;
}

function logIn() {
  view?.close();
  view = null;
  show("login-view");
  const form = main.querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await ask("/api/login", { token: form.token.value });
      route();
    } catch (error) {
      say(form.querySelector(".error"), error.status === 401 ? "The token is wrong." : "The server does not answer.");
      form.token.focus();
    }
  });
  form.token.focus();
}

async function route() {
  view?.close();
  view = null;
  page.caution(null);
  const bed = /^#\/bed\/(.+)$/.exec(location.hash);
  if (bed) {
    show("bed-view");
    view = new BedView(main, decodeURIComponent(bed[1]), page);
  } else {
    show("overview-view");
    // With one bed there is nothing to choose from.
    view = new Overview(main, page, location.hash === "");
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => {
  route();
  // Says which view this is.
  (main.querySelector("h1") ?? main).focus();
  scrollTo(0, 0);
});
route();
