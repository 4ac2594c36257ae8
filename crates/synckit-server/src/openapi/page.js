
"use strict";
const api = JSON.parse(document.getElementById("document").textContent);

// An element with attributes and children. Strings become text nodes: nothing of the document is ever markup.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Text with `code` in it.
function prose(text) {
  return String(text ?? "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

const nameOf = (reference) => reference.split("/").pop();
const anchor = (method, path) => `${method}${path}`.replace(/[^a-z0-9]+/gi, "-");

// A number in a JSON schema may be more than a double holds.
const digits = (number) => (number > Number.MAX_SAFE_INTEGER ? "2^64-1" : String(number));

function kind(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["any"];
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return [make("a", { href: `#schema-${name}` }, name), ...limits(schema)];
  }
  if (schema.anyOf || schema.oneOf) {
    const choices = (schema.anyOf ?? schema.oneOf).filter((choice) => choice.type !== "null");
    return choices.flatMap((choice, index) => (index ? [" or ", ...kind(choice)] : kind(choice)));
  }
  if (schema.type === "array") return ["array of ", ...kind(schema.items), ...limits(schema)];
  if (schema.enum) return schema.enum.flatMap((value, index) => [index ? ", " : "", make("code", {}, String(value))]);
  if (schema.const !== undefined) return [make("code", {}, String(schema.const))];
  const map = schema.additionalProperties ? ["map of ", ...kind(schema.additionalProperties)] : [[schema.type ?? "any"].flat().filter((name) => name !== "null").join(" or ")];
  return [...map, schema.format ? ` (${schema.format})` : "", ...limits(schema)];
}

function limits(schema) {
  const parts = [];
  const range = (from, to, unit) => {
    if (from === undefined && to === undefined) return;
    if (from === to) parts.push(`${digits(from)}${unit}`);
    else if (to === undefined) parts.push(`at least ${digits(from)}${unit}`);
    else parts.push(`${digits(from ?? 0)} to ${digits(to)}${unit}`);
  };
  range(schema.minimum, schema.maximum, "");
  range(schema.minLength, schema.maxLength, " characters");
  range(schema.minItems, schema.maxItems, " items");
  return parts.length ? [make("span", { class: "soft" }, ` ${parts.join(", ")}`)] : [];
}

function fields(schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, property]) =>
    make("tr", {},
      make("td", {}, make("code", {}, name), required.has(name) ? null : make("span", { class: "soft" }, " optional")),
      make("td", {}, kind(property)),
      make("td", { class: "soft" }, prose(property.description))));
  return rows.length ? make("table", {}, rows) : null;
}

const resolve = (schema) => (schema?.$ref ? api.components.schemas[nameOf(schema.$ref)] : schema);

function value(title, media, content) {
  const schema = content["application/json"]?.schema ?? Object.values(content)[0]?.schema;
  const heading = make("h4", {}, title, " ", make("span", { class: "soft" }, media));
  if (!schema) return [heading];
  const choices = schema.anyOf ?? schema.oneOf ?? [schema];
  return [heading, ...choices.flatMap((choice, index) => [
    make("p", { class: "soft" }, index ? "or " : "", kind(choice)),
    fields(resolve(choice)),
  ])];
}

function access(operation) {
  const names = (operation.security ?? []).map((way) => Object.keys(way)[0] ?? "loopback");
  return names.length ? names.join(" or ") : "no token";
}

function article(method, path, operation) {
  const parts = [];
  if (operation.parameters) {
    parts.push(make("h4", {}, "Parameters"), make("table", {}, operation.parameters.map((parameter) =>
      make("tr", {},
        make("td", {}, make("code", {}, parameter.name), make("span", { class: "soft" },
          ` ${parameter.in}${parameter.required ? "" : ", optional"}`)),
        make("td", {}, kind(parameter.schema)),
        make("td", { class: "soft" }, prose(parameter.description))))));
  }
  if (operation.requestBody) {
    const content = operation.requestBody.content;
    parts.push(...value("Request", Object.keys(content).join(", "), content),
      make("p", { class: "soft" }, operation.requestBody.description));
  }
  const answers = Object.entries(operation.responses);
  for (const [status, answer] of answers.filter(([status]) => status < "300")) {
    const content = answer.content ?? {};
    parts.push(...value(`${status}`, Object.keys(content).join(", "), content), make("p", {}, prose(answer.description)));
  }
  parts.push(make("h4", {}, "Problems"), make("table", { class: "status" },
    answers.filter(([status]) => status >= "300").map(([status, answer]) => make("tr", {},
      make("td", {}, status), make("td", {}, prose(answer.description))))));
  return make("article", { id: anchor(method, path) },
    make("h3", {}, make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("span", { class: "path" }, path), make("span", { class: "access" }, access(operation))),
    make("p", {}, operation.summary), parts);
}

const operations = Object.entries(api.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ method, path, operation })));

const filter = make("input", { type: "search", placeholder: "Filter: a path, a code, a word", "aria-label": "Filter" });
const nav = make("nav", {}, make("h1", {}, api.info.title, " ", make("small", {}, api.info.version)), filter);
const main = make("main", {}, make("h1", {}, `${api.info.title} API`),
  api.info.description.split("\n\n").map((text) => make("p", {}, prose(text))),
  make("p", {}, "Machine-readable: ", make("a", { href: "openapi.json" }, "openapi.json"), `, OpenAPI ${api.openapi}.`));
const nothing = make("p", { class: "soft", role: "status", hidden: "" }, "No operation matches.");
nav.append(nothing);
const shown = [];
for (const tag of api.tags) {
  const list = make("ul", {});
  const section = make("section", {}, make("h2", {}, tag.name), make("p", {}, prose(tag.description)));
  const heading = make("h2", {}, tag.name);
  const parts = [];
  for (const { method, path, operation } of operations.filter(({ operation }) => operation.tags.includes(tag.name))) {
    const body = article(method, path, operation);
    const link = make("li", {}, make("a", { href: `#${anchor(method, path)}` },
      make("span", { class: `method ${method}` }, method.toUpperCase()), make("span", { class: "path" }, path)));
    section.append(body);
    list.append(link);
    parts.push({ body, link, text: body.textContent.toLowerCase() });
  }
  nav.append(heading, list);
  main.append(section);
  shown.push({ group: [heading, section], parts });
}

const schemas = make("section", {}, make("h2", {}, "Schemas"));
for (const [name, schema] of Object.entries(api.components.schemas)) {
  const table = fields(schema);
  schemas.append(make("article", { id: `schema-${name}` }, make("h3", {}, make("span", { class: "path" }, name)),
    make("p", {}, prose(schema.description)), table ?? make("p", {}, kind(schema)),
    schema.pattern ? make("p", { class: "soft" }, "pattern ", make("code", {}, schema.pattern)) : null));
}
main.append(schemas);
document.body.append(nav, main);

filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = false;
  for (const { group, parts } of shown) {
    let any = false;
    for (const { body, link, text } of parts) {
      const matches = words.every((word) => text.includes(word));
      body.hidden = link.hidden = !matches;
      any ||= matches;
    }
    for (const element of group) element.hidden = !any;
    found ||= any;
  }
  nothing.hidden = found;
});
if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
