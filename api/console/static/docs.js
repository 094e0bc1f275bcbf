// Draws /openapi.json. Text goes in as text nodes alone, so nothing in the document can become markup.
"use strict";

const page = document.getElementById("docs");
const words = JSON.parse(page.dataset.words);
const wide = matchMedia("(min-width: 900.01px)");
let api;

function made(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
// `code` in descriptions; everything else stays as it is.
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? made("code", {}, part) : part));
const nameOf = (schema) => schema.$ref.split("/").pop();
const resolved = (schema) => (schema.$ref ? api.components.schemas[nameOf(schema)] : schema);
const code = (value) => made("pre", { tabindex: "0", role: "group", "aria-label": words.example }, pretty(value));

function kind(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.anyOf) return [...new Set(schema.anyOf.map(kind))].join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `${kind(schema.items || {})}[]`;
  return [schema.type || "any", bounds(schema)].filter(Boolean).join(" ");
}

function bounds(schema) {
  const least = schema.minimum ?? schema.minLength;
  const most = schema.maximum ?? schema.maxLength ?? schema.maxProperties;
  if (schema.exclusiveMinimum !== undefined) return `> ${schema.exclusiveMinimum}`;
  if (least !== undefined && most !== undefined) return `${least}–${most}`;
  if (least !== undefined) return `≥ ${least}`;
  return most !== undefined ? `≤ ${most}` : "";
}

const table = (rows) => made("table", { class: "schema" }, made("tbody", {}, ...rows));
const row = (first, ...rest) => made("tr", {}, made("td", {}, ...first), made("td", {}, ...rest));

function fields(schema) {
  const required = new Set(schema.required || []);
  return table(
    Object.entries(schema.properties || {}).map(([name, field]) => {
      const simple = field.default != null && typeof field.default !== "object" && field.default !== "";
      const about = kind(field) + (simple ? ` · ${words.default} ${field.default}` : "");
      return row(
        [made("code", {}, name), required.has(name) ? made("span", { class: "kind" }, ` ${words.required}`) : null].filter(Boolean),
        made("span", { class: "kind" }, about),
        field.description ? made("p", {}, ...prose(field.description)) : null,
      );
    }),
  );
}

// The schemas that one refers to, each once.
function within(schema, names = []) {
  if (schema.$ref) {
    if (!names.includes(nameOf(schema))) within(resolved(schema), (names.push(nameOf(schema)), names));
    return names;
  }
  const parts = [...(schema.anyOf || []), ...Object.values(schema.properties || {}), schema.items, schema.additionalProperties];
  for (const part of parts) if (part && typeof part === "object") within(part, names);
  return names;
}

function schemaOf(name) {
  const schema = api.components.schemas[name];
  const about = schema.description ? made("p", { class: "soft" }, ...prose(schema.description)) : null;
  return made("div", {}, made("h4", {}, name), about, fields(schema));
}

// What may be long is made when it is unfolded.
function fold(title, make, kind = "") {
  const part = made("details", { class: `fold ${kind}` }, made("summary", {}, title));
  part.addEventListener("toggle", () => part.childElementCount === 1 && part.append(...make()));
  return part;
}

function parametersOf(operation) {
  if (!operation.parameters.length) return null;
  const rows = operation.parameters.map((one) =>
    row(
      [made("code", {}, one.name), made("span", { class: "kind" }, ` ${one.in}`)],
      ...prose(one.description), " ", made("span", { class: "kind" }, kind(one.schema)),
    ));
  return made("div", {}, made("h4", {}, words.parameters), table(rows));
}

function bodyOf(operation) {
  const content = Object.values(operation.requestBody?.content || {})[0];
  if (!content) return null;
  const more = within(content.schema).slice(1);
  return made("div", {}, made("h4", {}, words.body), fields(resolved(content.schema)),
    more.length ? fold(words.schemas, () => more.map(schemaOf)) : null);
}

function examplesOf(answer, status) {
  const content = Object.values(answer.content || {})[0];
  if (!content || status >= 400) return [];
  return content.example != null ? [content.example] : Object.values(content.examples || {}).map((one) => one.value);
}

function answersOf(operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) => {
    const examples = examplesOf(answer, status);
    const headers = Object.entries(answer.headers || {}).map(([name, header]) =>
      made("p", { class: "kind" }, made("code", {}, name), " ", ...prose(header.description)));
    return row([made("span", { class: `status ${status < 400 ? "ok" : "bad"}` }, status)],
      made("p", {}, ...prose(answer.description)), ...headers,
      examples.length ? fold(words.example, () => examples.map(code)) : null);
  });
  return made("div", {}, made("h4", {}, words.answers), table(rows));
}

function article(method, path, operation) {
  return made("article", { class: "card", id: operation.operationId },
    made("header", {}, made("span", { class: `verb ${method}` }, method.toUpperCase()), made("code", { class: "path" }, path),
      operation.security.length ? null : made("span", { class: "soft" }, words.open)),
    made("div", {},
      made("h3", {}, operation.summary),
      ...operation.description.split("\n\n").filter(Boolean).map((text) => made("p", {}, ...prose(text))),
      parametersOf(operation), bodyOf(operation), answersOf(operation),
      fold(words.try, () => tryIt(method, path, operation), "try")));
}

// The list of operations: folded where the page is narrow, and narrowed to what is searched for.
class Menu {
  constructor() {
    this.menu = made("details", { id: "menu", open: wide.matches }, made("summary", {}, words.operations));
    this.none = made("p", { class: "soft", hidden: true, role: "status" }, words.none);
    this.search = made("input", { type: "search", placeholder: `${words.search} (/)`, "aria-label": words.search,
      "data-search": true, oninput: () => this.narrow() });
    this.groups = [];
    wide.addEventListener("change", () => (this.menu.open = wide.matches));
  }

  group(name, section) {
    const heading = made("h2", {}, name);
    this.menu.append(heading);
    this.groups.push({ heading, section, entries: [] });
  }

  add(method, path, operation, described) {
    const link = made("a", { href: `#${operation.operationId}`, onclick: () => (this.menu.open = wide.matches) },
      made("span", { class: `verb ${method}` }, method.toUpperCase()), made("span", {}, operation.summary));
    const text = [method, path, operation.summary, operation.description].join(" ").toLowerCase();
    this.groups.at(-1).entries.push({ link, described, text });
    this.menu.append(link);
  }

  narrow() {
    const asked = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { heading, section, entries } of this.groups) {
      for (const { link, described, text } of entries) link.hidden = described.hidden = !asked.every((word) => text.includes(word));
      heading.hidden = section.hidden = entries.every(({ link }) => link.hidden);
    }
    this.none.hidden = this.groups.some(({ heading }) => !heading.hidden);
    this.menu.open = wide.matches || asked.length > 0;
  }
}

function draw() {
  const operations = document.getElementById("operations");
  const problem = api.components.schemas.Problem;
  const sample = api.paths["/v1/jobs"].post.responses["422"].content["application/problem+json"].examples.invalid_request.value;
  operations.replaceChildren(
    made("div", { class: "head" }, made("h1", {}, api.info.title), made("span", { class: "soft" }, api.info.version)),
    made("p", {}, ...prose(`${api.info.summary} ${api.info.description}`), ` ${words.machines} `, made("a", { href: "/openapi.json" }, "/openapi.json")),
    whoCalls(),
    fold(words.error, () => [code(sample), fields(problem)]));
  const menu = new Menu();
  document.getElementById("nav").replaceChildren(menu.search, menu.none, menu.menu);
  for (const tag of api.tags) {
    const section = made("section", {}, made("h2", {}, tag.name), made("p", {}, tag.description));
    menu.group(tag.name, section);
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(item).filter(([, one]) => one.tags.includes(tag.name))) {
        const described = article(method, path, operation);
        menu.add(method, path, operation, described);
        section.append(described);
      }
    }
    operations.append(section);
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

document.addEventListener("DOMContentLoaded", async () => {
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(String(answer.status));
    api = await answer.json();
  } catch (error) {
    document.getElementById("reading").textContent = `${words.away} (${error.message})`;
    return;
  }
  draw();
});
