// The forms of the page of the API that send a call: by the session of the console, or by a key that is given.
"use strict";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const session = () => document.querySelector("#bar[data-csrf]")?.dataset;
const TOLD = ["location", "retry-after", "x-request-id"];
let keyGiven = sessionStorage.getItem("token") ?? "";

// Who calls: said above the operations, once more when the bar has come that knows the session.
function whoCalls() {
  const card = made("div", { class: "card", id: "who" });
  const tell = () => {
    const known = session();
    if (known) {
      card.replaceChildren(made("p", {}, words.session.replace("{tenant}", known.tenant)));
      return;
    }
    const key = made("input", { id: "token", type: "password", autocomplete: "off", "aria-label": words.key, placeholder: words.key, value: keyGiven,
      oninput: (event) => {
        keyGiven = event.target.value.trim();
        sessionStorage.setItem("token", keyGiven);
      } });
    card.replaceChildren(made("p", {}, made("a", { href: "/console/sign-in?next=/docs" }, words.signIn), ` ${words.or}`), key);
  };
  tell();
  document.addEventListener("htmx:load", tell);
  return card;
}

// One form: what is filled in, the same as a command, and the answer.
class Call {
  constructor(method, path, operation) {
    Object.assign(this, { method: method.toUpperCase(), path, operation, running: null });
    const [media, content] = Object.entries(operation.requestBody?.content || {})[0] || ["", {}];
    this.media = media;
    this.inputs = operation.parameters.filter((one) => one.name !== "ticket").map((one) => {
      const input = made("input", { placeholder: one.in === "path" ? String(one.example ?? "") : null, oninput: () => this.update(), autocomplete: "off", spellcheck: "false" });
      return { ...one, input };
    });
    this.samples = Object.entries(content.examples || {});
    this.body = media === "application/json" ? made("textarea", { spellcheck: "false", "aria-label": words.body, oninput: () => this.update() }) : null;
    if (this.body && this.samples.length) this.body.value = pretty(this.samples[0][1].value);
    this.form = media === "multipart/form-data" ? this.formFields(resolved(content.schema)) : null;
    this.command = made("pre", { tabindex: "0", role: "group", "aria-label": "curl", id: `curl-${operation.operationId}` });
    this.result = made("pre", { hidden: true, tabindex: "0", role: "log", "aria-label": words.answer });
    this.send = made("button", { type: "button", class: "main", onclick: () => (this.running ? this.running.abort() : this.call()) }, words.send);
    this.update();
  }

  // The fields of a form that takes a file.
  formFields(schema) {
    return Object.keys(schema.properties || {}).map((name) => {
      const input = made("input", { type: name === "file" ? "file" : "text", oninput: () => this.update(), autocomplete: "off" });
      return { name, input };
    });
  }

  parts() {
    const labelled = (name, input) => made("p", {}, made("label", {}, name, input));
    const fields = [...this.inputs.map(({ name, in: place, input }) => labelled(`${name} (${place})`, input)),
      ...(this.form || []).map(({ name, input }) => labelled(name, input))];
    const pick = this.samples.length > 1 && this.body ? made("select", { "aria-label": words.example, onchange: (event) => {
      this.body.value = pretty(this.samples[event.target.selectedIndex][1].value);
      this.update();
    } }, ...this.samples.map(([name]) => made("option", {}, name))) : null;
    const copy = made("button", { type: "button", "data-copy": this.command.id }, `${words.copy} curl`);
    return [fields.length ? made("div", { class: "fields" }, ...fields) : null, pick ? made("p", {}, pick) : null, this.body,
      made("div", { class: "actions" }, this.send, copy), this.command, this.result].filter(Boolean);
  }

  get target() {
    let url = this.path;
    const query = new URLSearchParams();
    for (const { name, in: place, input } of this.inputs) {
      if (place === "path") url = url.replace(`{${name}}`, input.value ? encodeURIComponent(input.value) : `{${name}}`);
      else if (place === "query" && input.value) query.set(name, input.value);
    }
    return url + (query.size ? `?${query}` : "");
  }

  get headers() {
    const given = this.inputs.filter(({ in: place, input }) => place === "header" && input.value);
    return Object.fromEntries([...given.map(({ name, input }) => [name, input.value]), ...(this.body ? [["Content-Type", this.media]] : [])]);
  }

  update() {
    const streams = "text/event-stream" in (this.operation.responses["200"]?.content || {});
    const parts = [`curl ${streams ? "-N " : ""}${this.method === "GET" ? "" : `-X ${this.method} `}${quoted(location.origin + this.target)}`];
    if (this.operation.security.length) parts.push('-H "Authorization: Bearer $TRUTHGPT_API_TOKEN"');
    for (const [name, value] of Object.entries(this.headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
    if (this.body) parts.push(`-d ${quoted(compactOf(this.body.value))}`);
    for (const { name, input } of this.form || []) if (input.value) parts.push(`-F ${quoted(`${name}=${input.files ? `@${input.files[0].name}` : input.value}`)}`);
    this.command.textContent = parts.join(" \\\n  ");
  }

  // Where the call goes and what proves who calls; null: nobody does yet.
  way() {
    const known = session();
    if (!this.operation.security.length) return { before: "", headers: {} };
    if (known) return { before: "/console/api", headers: { "X-CSRF-Token": known.csrf } };
    return keyGiven ? { before: "", headers: { Authorization: `Bearer ${keyGiven}` } } : null;
  }

  async call() {
    const way = this.way();
    this.result.hidden = false;
    if (!way) {
      this.result.replaceChildren(words.needs, "\n", made("a", { href: "/console/sign-in?next=/docs" }, words.signIn));
      return;
    }
    this.running = new AbortController();
    this.send.textContent = words.stop;
    this.result.textContent = words.sending;
    try {
      await this.show(await fetch(way.before + this.target, {
        method: this.method, headers: { ...this.headers, ...way.headers }, body: this.payload(), signal: this.running.signal,
      }));
    } catch (error) {
      if (error.name !== "AbortError") this.result.append(`\n${words.away} (${error.message})`);
    }
    this.running = null;
    this.send.textContent = words.send;
  }

  payload() {
    if (!this.form) return this.body?.value;
    const data = new FormData();
    for (const { name, input } of this.form) if (input.value) data.append(name, input.files ? input.files[0] : input.value);
    return data;
  }

  async show(answer) {
    const told = TOLD.filter((name) => answer.headers.has(name)).map((name) => `${name}: ${answer.headers.get(name)}\n`);
    const head = `${answer.status} ${answer.statusText}\n${told.join("")}\n`;
    if ((answer.headers.get("content-type") || "").includes("json")) {
      this.result.textContent = head + pretty(await answer.json());
      return;
    }
    this.result.textContent = head;
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; reader && !(part = await reader.read()).done; ) {
      this.result.append(part.value);
      this.result.scrollTop = this.result.scrollHeight;
    }
  }
}

// JSON on one line, anything else as it was typed.
function compactOf(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

const tryIt = (method, path, operation) => new Call(method, path, operation).parts();
