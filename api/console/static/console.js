// What htmx and plain HTML do not do: times of the reader's zone, pages that look again, streams of events.
"use strict";

const say = document.documentElement.dataset;
const language = document.documentElement.lang;
const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const today = new Intl.DateTimeFormat(language, time);
const clock = new Intl.DateTimeFormat(language, { year: "numeric", month: "short", day: "numeric", ...time });

// Times: the reader's own, with UTC in the title.
function localTimes(root) {
  const now = new Date().toDateString();
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(element.dateTime);
    element.title = element.textContent;
    element.textContent = (at.toDateString() === now ? today : clock).format(at);
  }
}

// Parts that look again every few seconds, while somebody sees them, but not while somebody reads what they
// have unfolded or selects in them.
function inUse(part) {
  const selection = document.getSelection();
  const selects = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  return selects || part.querySelector("details[open]") !== null;
}

const due = new Map();
setInterval(() => {
  if (document.hidden) return;
  const now = Date.now();
  for (const part of document.querySelectorAll("[data-every]")) {
    const next = due.get(part.id) ?? now + 1000 * part.dataset.every;
    if (now >= next && !inUse(part)) htmx.trigger(part, "refresh");
    due.set(part.id, now >= next ? now + 1000 * part.dataset.every : next);
  }
}, 250);

// What could not be done is said at the foot of the page; what was away is taken back when it answers.
const notice = () => document.getElementById("notice");

function away() {
  const line = document.createElement("div");
  line.className = "away";
  line.append(Object.assign(document.createElement("p"), { textContent: say.away }));
  notice().replaceChildren(line);
}

// What this server refuses it says itself, and where; an answer of something between says that it is away.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status < 400) return;
  event.detail.shouldSwap = xhr.getResponseHeader("HX-Retarget") !== null;
  if (!event.detail.shouldSwap) away();
});
document.addEventListener("htmx:sendError", away);
document.addEventListener("htmx:timeout", away);
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && notice().querySelector(".away")) notice().replaceChildren();
});

// What was sent from a chat's form stands above it, so the field is empty for what comes next.
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.target;
  if (event.detail.successful && form.dataset?.clears) form.elements[form.dataset.clears].value = "";
});

// A job's events, from the first on. A stream that ends is opened again after the last event that came, so
// that no text is missing and none comes twice, whatever broke.
class Follower {
  constructor(root) {
    this.root = root;
    this.last = "";
    this.wait = 500;
    this.open();
  }

  open() {
    const after = this.last ? `?after=${this.last}` : "";
    const source = new EventSource(this.root.dataset.events + after);
    this.source = source;
    source.onopen = () => {
      this.wait = 500;
      this.tell("");
    };
    source.onerror = () => this.broken();
    const on = (kind, act) =>
      source.addEventListener(kind, (event) => {
        this.last = event.lastEventId;
        act(JSON.parse(event.data));
      });
    on("status", () => this.changed());
    on("token", (data) => this.append(data.choice ?? 0, data.text));
    on("output", (data) => this.append(0, `${JSON.stringify(data)}\n`));
    on("reset", () => this.texts().forEach((text) => text.replaceChildren()));
    on("done", () => {
      source.close();
      this.texts().forEach((text) => text.classList.remove("cursor"));
      this.tell("");
      this.changed();
      this.refresh(this.root.dataset.end);
    });
  }

  broken() {
    this.tell(say.again);
    if (this.source.readyState !== EventSource.CLOSED || !this.root.isConnected) return;
    // Browsers come back by themselves after a connection that broke, but not after an answer that refused.
    this.changed();
    setTimeout(() => this.root.isConnected && this.open(), this.wait);
    this.wait = Math.min(5000, this.wait * 2);
  }

  texts() {
    return [...this.root.querySelectorAll("pre.live")];
  }

  append(choice, text) {
    let texts = this.texts();
    if (!texts.length) return;
    while (texts.length <= choice) {
      texts.at(-1).after(texts.at(-1).cloneNode(false));
      texts = this.texts();
    }
    const pre = texts[choice];
    const follows = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 24;
    if (!pre.firstChild) pre.append("");
    pre.firstChild.appendData(text);
    if (follows) pre.scrollTop = pre.scrollHeight;
  }

  tell(text) {
    const line = this.root.querySelector(".only-live");
    if (line) line.textContent = text;
  }

  changed() {
    this.refresh(this.root.dataset.facts);
  }

  refresh(ids = "") {
    for (const id of ids.split(" ").filter(Boolean)) {
      const part = document.getElementById(id);
      if (part) htmx.trigger(part, "refresh");
    }
  }
}

const followers = new WeakMap();
function follow(root) {
  for (const element of root.querySelectorAll("[data-events]")) {
    if (!followers.has(element)) followers.set(element, new Follower(element));
  }
}

addEventListener("pagehide", () => {
  for (const element of document.querySelectorAll("[data-events]")) followers.get(element)?.source.close();
});
addEventListener("pageshow", (event) => event.persisted && location.reload());

// Buttons that copy what stands beside them.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Only secure pages may write to the clipboard; elsewhere the reader's own key does.
    const range = document.createRange();
    range.selectNodeContents(document.getElementById(button.dataset.copy));
    const selection = document.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return;
  }
  const before = button.textContent;
  button.textContent = say.copied;
  setTimeout(() => (button.textContent = before), 1500);
});

// A choice in a form that applies at once, and a time of the reader's zone that the server gets as a number.
document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.dataset.moment) {
    const at = field.value ? new Date(field.value).getTime() : "";
    document.getElementById(field.dataset.moment).value = at;
  }
  if (field.dataset.most) {
    const large = field.files[0]?.size > Number(field.dataset.most);
    field.setCustomValidity(large ? field.dataset.tooLarge : "");
    field.reportValidity();
  }
  if (field.matches("[data-apply]")) field.form.requestSubmit();
  if (field.matches("[data-all]")) {
    for (const box of field.form.querySelectorAll("input[type=checkbox]")) box.checked = field.checked;
  }
});

// Uploads: how far one is; its form is empty again once it is done, and stays as it was where it failed.
document.addEventListener("htmx:xhr:progress", (event) => {
  const bar = event.target.matches("[data-upload]") && event.target.querySelector("progress");
  if (!bar || !event.detail.lengthComputable) return;
  bar.hidden = false;
  bar.value = event.detail.loaded / event.detail.total;
});
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.target;
  if (!form.matches("[data-upload]")) return;
  form.querySelector("progress").hidden = true;
  if (event.detail.successful) form.reset();
});

// Keys, as many consoles have them: g and a letter goes to a page, / to the search, ? lists them.
let gone = 0;
document.addEventListener("keydown", (event) => {
  const within = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "Escape") {
    document.querySelector(".menu[open]")?.removeAttribute("open");
    notice()?.replaceChildren();
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && within?.matches("textarea")) {
    within.form.requestSubmit();
  }
  if (within || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "g") {
    gone = Date.now();
  } else if (Date.now() - gone < 1500) {
    gone = 0;
    document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`)?.click();
  } else if (event.key === "/" && document.querySelector("[data-search]")) {
    event.preventDefault();
    document.querySelector("[data-search]").focus();
  } else if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  }
});

// A link that signs in once carries its ticket behind the #, which no server, proxy or log gets to see.
function redeem() {
  const form = document.getElementById("ticket-form");
  const ticket = /^#ticket=([\w.-]+)$/.exec(location.hash);
  if (!form || !ticket) return;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.ticket.value = ticket[1];
  form.submit();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const field of document.querySelectorAll("[data-epoch]")) {
    const at = Number(field.dataset.epoch);
    if (at) field.value = new Date(at - 60000 * new Date(at).getTimezoneOffset()).toISOString().slice(0, 19);
  }
  localTimes(document);
  follow(document);
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  redeem();
});
document.addEventListener("htmx:load", (event) => {
  localTimes(event.detail.elt.parentElement ?? document);
  follow(event.detail.elt.parentElement ?? document);
});
addEventListener("hashchange", redeem);
