// A page to try the API: it reads /openapi.json and calls this same server, and nothing else.
// Everything is written as text, never as HTML, so nothing a server or a user says can become code.
"use strict";

const find = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function resolve(api, schema) {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.split("/").slice(1).reduce((part, name) => part[name], api);
}

function typeName(api, schema) {
  const found = resolve(api, schema);
  if (schema.allOf) return typeName(api, schema.allOf[0]);
  if (found.type === "array") return `${typeName(api, found.items)}[]`;
  if (found.enum) return "enum";
  if (schema.$ref && found.properties) return schema.$ref.split(".").pop();
  return found.format || [].concat(found.type || "object").join(" | ");
}

// A first body: the fields a caller most often sets, empty, so that he sees their form.
function sample(api, schema) {
  const body = {};
  for (const [name, property] of Object.entries(resolve(api, schema).properties || {})) {
    const found = resolve(api, property);
    if (/not available yet/i.test(property.description || "") || name === "idempotencyKey") continue;
    if (found.enum) body[name] = found.enum.find((value) => !/UNSPECIFIED/.test(value)) || found.enum[0];
    else if (found.type === "array") body[name] = [];
    else if (found.type === "string" && (!found.format || found.format === "password")) body[name] = "";
  }
  return JSON.stringify(body, null, 2);
}

function fieldsTable(api, schema) {
  const rows = Object.entries(resolve(api, schema).properties || {}).map(([name, property]) => {
    const allowed = resolve(api, property).enum;
    const text = [property.description, allowed && `One of ${allowed.join(", ")}.`].filter(Boolean).join(" ");
    return element("tr", {},
      element("td", {}, element("code", { textContent: name })),
      element("td", { textContent: typeName(api, property) }),
      element("td", { textContent: text }));
  });
  return rows.length ? element("table", {}, element("tbody", {}, ...rows)) : element("p", { textContent: "No fields." });
}

function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function command(path, body) {
  return ["curl", "-H", quoted("content-type: application/json"), "-H", '"authorization: Bearer $KEYSTEAD_MANAGEMENT_KEY"',
    "-d", quoted(body), quoted(location.origin + path)].join(" ");
}

async function send(path, body, result) {
  result.replaceChildren(element("p", { textContent: "…" }));
  const headers = { "content-type": "application/json" };
  const bearer = find("bearer").value.trim();
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  try {
    const started = performance.now();
    const reply = await fetch(path, { method: "POST", headers, body, credentials: "omit", cache: "no-store" });
    const text = await reply.text();
    const took = Math.round(performance.now() - started);
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it came */ }
    result.replaceChildren(
      element("p", { className: reply.ok ? "good" : "bad", textContent: `${reply.status} ${reply.statusText}, ${took} ms` }),
      element("pre", { textContent: shown }));
  } catch (error) {
    result.replaceChildren(element("p", { className: "bad", textContent: `No answer: ${error.message}` }));
  }
}

function show(api, path, operation) {
  const schema = operation.requestBody?.content?.["application/json"]?.schema || {};
  const reply = operation.responses?.["200"]?.content?.["application/json"]?.schema || {};
  const body = element("textarea", { id: "body", value: sample(api, schema), rows: 10, spellcheck: false });
  const result = element("div");
  const copied = element("small");
  const copy = element("button", { type: "button", textContent: "Copy as curl" });
  copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(command(path, body.value));
    copied.textContent = "Copied; it takes the key from $KEYSTEAD_MANAGEMENT_KEY.";
  });
  const form = element("form", {},
    element("label", { htmlFor: "body", textContent: "Body" }), body,
    element("div", { className: "row" }, element("button", { className: "primary", textContent: "Send" }), copy, copied));
  form.addEventListener("submit", (event) => { event.preventDefault(); send(path, body.value, result); });
  const scope = operation["x-required-scope"];
  find("method").replaceChildren(
    element("h2", { textContent: operation.operationId.replace("_", ".") }),
    element("p", { textContent: operation.description || operation.summary || "" }),
    element("p", {}, element("code", { textContent: `POST ${path}` }), scope ? ` needs ${scope}` : ""),
    form, result,
    element("h3", { textContent: "Request" }), fieldsTable(api, schema),
    element("h3", { textContent: "Reply" }), fieldsTable(api, reply));
}

function list(api) {
  const wanted = find("search").value.trim().toLowerCase();
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    const operation = item.post;
    if (!operation || !`${path} ${operation.summary || ""}`.toLowerCase().includes(wanted)) continue;
    const tag = operation.tags?.[0] || "Other";
    if (!groups.has(tag)) groups.set(tag, []);
    const button = element("button", { type: "button", textContent: path.split("/").pop(), title: operation.summary || "" });
    button.setAttribute("aria-current", String(location.hash === `#${path}`));
    button.addEventListener("click", () => { location.hash = path; });
    groups.get(tag).push(button);
  }
  find("methods").replaceChildren(...[...groups].flatMap(([tag, buttons]) => [element("h2", { textContent: tag }), ...buttons]));
}

async function start() {
  find("credential").addEventListener("submit", (event) => event.preventDefault());
  const reply = await fetch("/openapi.json");
  if (!reply.ok) {
    find("method").replaceChildren(element("p", { className: "bad", textContent: "There is no /openapi.json on this server." }));
    return;
  }
  const api = await reply.json();
  const go = () => {
    const path = decodeURIComponent(location.hash.slice(1));
    const operation = Object.hasOwn(api.paths, path) ? api.paths[path].post : undefined;
    list(api);
    if (operation) show(api, path, operation);
  };
  find("search").addEventListener("input", () => list(api));
  addEventListener("hashchange", go);
  go();
}

start();
