// Building blocks of the page. Text from other nodes only ever becomes text nodes.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((one) => one != null).map(asNode));
  return made;
}

function asNode(value) {
  return value instanceof Node ? value : document.createTextNode(String(value));
}

export const byId = (id) => document.getElementById(id);

// A table of rows; a column is [title, cell of a row, class].
export function table(caption, columns, rows, empty) {
  if (!rows.length) return element("p", { class: "quiet" }, empty);
  const head = columns.map(([title, , kind]) =>
    element("th", { scope: "col", class: kind }, title));
  const body = rows.map((row) =>
    element("tr", {}, ...columns.map(([, cell, kind]) =>
      element("td", { class: kind }, ...[cell(row)].flat()))));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element("table", {},
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body)));
}

// Replace what a place shows, unless the person is busy inside it.
export function show(place, ...nodes) {
  if (!place.contains(document.activeElement) || document.activeElement === place) {
    place.replaceChildren(...nodes);
  }
}

export function button(words, act, label) {
  return element("button", { type: "button", class: "plain", "aria-label": label, onclick: act }, words);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function size(bytes) {
  let value = bytes, unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function shortDigest(digest) {
  return element("span", { class: "digest", title: digest }, digest.replace(/^sha256:/, "").slice(0, 12));
}

// Run a command of the node; an Error has its sentence.
export async function ask(command, body = {}) {
  const answer = await fetch(`/api/${command}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.error ?? answer.statusText);
  return document;
}

// Run a command and hear of its progress: server-sent events over a POST.
export async function askLive(command, body, onProgress) {
  const answer = await fetch(`/api/${command}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error((await answer.json()).error ?? answer.statusText);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the node broke off");
    const lines = (waiting + value).split("\n");
    waiting = lines.pop();
    for (const line of lines.filter((one) => one.startsWith("data: "))) {
      const event = JSON.parse(line.slice(6));
      if (event.progress) onProgress(event.progress);
      else if (event.error) throw new Error(event.error);
      else return event.result;
    }
  }
}
