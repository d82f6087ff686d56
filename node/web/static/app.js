// The dashboard: live figures over server-sent events, everything else by the API.

import { ask, askLive, button, byId, element, shortDigest, show, size, span, table } from "/static/dom.js";
import { drawRing } from "/static/ring.js";

const KEPT_SECONDS = 300;
const ROWS_MAX = 200;
const state = { peers: [], steps: [], target: "", list: null, held: "", chart: null, series: [[], [], []], last: null, log: [] };

// --- live ---------------------------------------------------------------------------

function connect() {
  const live = new EventSource("/api/live");
  live.onopen = () => { byId("connection").textContent = "live"; };
  live.onerror = () => { byId("connection").textContent = "the node does not answer; trying again…"; };
  live.onmessage = (message) => take(JSON.parse(message.data));
}

function take(figures) {
  if (figures.status) {
    showNode(figures.status);
    showSpeed(figures.at, figures.status, figures.transfers ?? []);
    showGateway(figures.status.gateway);
    showLimits(figures.status.limits);
    const held = `${figures.status.artifacts} ${figures.status.bytes_held}`;
    if (held !== state.held) { state.held = held; refreshContent(); }
  }
  if (figures.transfers) showTransfers(figures.transfers);
  if (figures.peers) { state.peers = figures.peers.contacts; showPeers(); showRing(); }
  if (figures.log?.length) showLog(figures.log);
}

function facts(place, pairs) {
  place.replaceChildren(...pairs.flatMap(([name, value]) =>
    value == null || value === "" ? [] : [element("dt", {}, name), element("dd", {}, value)]));
}

function showNode(status) {
  state.own = status.node_id;
  const reach = status.reachability;
  facts(byId("node-facts"), [
    ["Address", status.address],
    ["Reachable", reach && `UDP ${reach.udp}, TCP ${reach.tcp}`],
    ["Network", status.network],
    ["Site door", status.site],
    ["Contacts", status.contacts],
    ["Held", `${status.artifacts} files, ${size(status.bytes_held)}`],
    ["Version", status.version],
    ["Running for", status.uptime_seconds == null ? null : span(status.uptime_seconds)],
    ["Folder", status.home],
    ["Trouble", status.failing.map((one) => `${one.name}: ${one.error}`).join("; ")],
    ["Node id", element("span", { class: "digest" }, status.node_id)],
  ]);
}

// --- transfers ----------------------------------------------------------------------

function showSpeed(at, status, transfers) {
  const coming = transfers.reduce((sum, one) => sum + one.done, 0);
  const received = coming + status.transfer.leecher.bytes_received + (status.gateway.origin?.bytes ?? 0);
  const now = { at, received, sent: status.transfer.seeder.bytes_sent };
  const last = state.last;
  state.last = now;
  if (!last || at <= last.at) return;
  const seconds = at - last.at;
  const down = Math.max(0, now.received - last.received) / seconds;
  const up = Math.max(0, now.sent - last.sent) / seconds;
  [at, down, up].forEach((value, row) => state.series[row].push(value));
  if (state.series[0].length > KEPT_SECONDS) state.series.forEach((row) => row.shift());
  byId("speed-words").textContent =
    `Receiving ${size(down)}/s, sending ${size(up)}/s; received ${size(now.received)}, sent ${size(now.sent)} since the start.`;
  drawChart();
}

function drawChart() {
  const place = byId("speed");
  if (!state.chart) {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line") } };
    state.chart = new uPlot({
      width: place.clientWidth, height: 160,
      series: [{}, { label: "received", stroke: colour("--accent"), width: 2 }, { label: "sent", stroke: colour("--warm"), width: 2 }],
      axes: [{ ...axis, space: 90, incrs: [10, 30, 60] }, { ...axis, size: 80, values: (_, marks) => marks.map((mark) => `${size(mark)}/s`) }],
      legend: { show: true, live: false },
      cursor: { show: false },
      scales: { x: { range: (_, low, high) => [Math.min(low, high - 60), high] }, y: { range: (_, low, high) => [0, Math.max(high, 1024)] } },
    }, state.series, place);
    addEventListener("resize", () => state.chart.setSize({ width: place.clientWidth, height: 160 }));
  }
  state.chart.setData(state.series);
}

function showTransfers(transfers) {
  show(byId("transfer-rows"), table("Transfers under way", [
    ["File", (one) => one.file || shortDigest(one.digest)],
    ["Direction", (one) => one.direction],
    ["Done", (one) => one.total == null ? size(one.done)
      : [element("progress", { max: one.total, value: one.done, "aria-label": `${one.file || one.digest}: done` }),
         `${size(one.done)} of ${size(one.total)}`]],
    ["Peers", (one) => one.peers.map((peer) => peer.address).join(", ")],
  ], transfers, "Nothing is on its way."));
}

// --- content ------------------------------------------------------------------------

async function refreshContent() {
  try { state.list = await ask("list"); } catch (error) { state.list = null; }
  showContent();
}

function showContent() {
  if (!state.list) return;
  const words = byId("content-filter").elements.words.value.toLowerCase();
  const { packages, artifacts } = state.list;
  const inPackages = new Set(packages.flatMap((one) => one.artifacts));
  const names = new Map(packages.map((one) => [one.digest, `${one.name} ${one.version}`]));
  const rows = [
    ...packages.map((one) => ({ ...one, kind: "package", name: `${one.name} ${one.version}` })),
    ...artifacts.filter((one) => !inPackages.has(one.digest) && one.kind !== "package file")
      .map((one) => ({ ...one, kind: "file", name: one.file || one.digest })),
  ].filter((one) => one.name.toLowerCase().includes(words) || one.digest.includes(words));
  byId("content-count").textContent = rows.length > ROWS_MAX
    ? `the first ${ROWS_MAX} of ${rows.length}` : `${rows.length} shown`;
  show(byId("content-rows"), table("What this node holds", [
    ["Name", (one) => one.name],
    ["Kind", (one) => one.kind],
    ["Size", (one) => one.size == null ? "" : size(one.size), "number"],
    ["Needs", (one) => (one.dependencies ?? []).map((digest) => names.get(digest) ?? digest.slice(7, 19)).join(", ")],
    ["Digest", (one) => shortDigest(one.digest)],
    ["Actions", (one) => [
      button(one.pinned ? "Unpin" : "Pin", () => act(one.pinned ? "unpin" : "pin", { targets: [one.digest] }), `${one.pinned ? "Unpin" : "Pin"} ${one.name}`),
      " ", button("Who has it", () => lookUp(one.digest), `Who has ${one.name}`),
      " ", one.own ? null : button("Stop sharing", () => act("unshare", { targets: [one.digest] }), `Stop sharing ${one.name}`),
    ].filter(Boolean)],
  ], rows.slice(0, ROWS_MAX), "Nothing is held yet. Fetch or share something."));
}

async function act(command, body) {
  document.activeElement?.blur();
  try { await ask(command, body); } catch (error) { alert(error.message); }
  await refreshContent();
}

// --- peers and ring -----------------------------------------------------------------

function showPeers() {
  show(byId("peer-rows"), table("Contacts of this node", [
    ["Address", (one) => one.address],
    ["Node", (one) => element("span", { class: "digest", title: one.node_id }, one.node_id.slice(0, 12))],
    ["Round trip", (one) => one.rtt_ms == null ? "" : `${one.rtt_ms.toFixed(1)} ms`, "number"],
    ["Heard", (one) => `${span(one.age_seconds)} ago`, "number"],
  ], state.peers, "No contacts yet. Others join with the address above."));
}

function showRing() {
  if (state.own) byId("ring-view").replaceChildren(drawRing(state.own, state.peers, state.target, state.steps));
}

async function lookUp(digest) {
  const words = byId("ring-words");
  Object.assign(state, { steps: [], target: "" });
  words.textContent = "looking…";
  location.hash = "ring";
  try {
    const found = await askLive("lookup", { digest, trace: true }, (event) => {
      if (!event.steps) return;
      state.steps = event.steps;
      state.target = event.key;
      showRing();
    });
    const who = found.providers.map((one) => one.address).join(", ");
    words.textContent = `Offered by ${found.providers.length} ${found.providers.length === 1 ? "node" : "nodes"}: ${who}. ${found.requests} requests, ${found.seconds.toFixed(2)} s.`;
  } catch (error) { words.textContent = error.message; }
}

// --- updates and follows ------------------------------------------------------------

async function refreshUpdates() {
  let updates;
  try { updates = await ask("updates"); } catch (error) {
    show(byId("update-rows"), element("p", { class: "bad" }, error.message));
    return;
  }
  const doubts = updates.doubts.map((one) => element("p", { class: "warm" }, `${one.name}: ${one.why}`));
  const apply = updates.updates.length
    ? element("button", { type: "button", onclick: applyUpdates }, "Fetch all of them") : "";
  show(byId("update-rows"), table("Updates", [
    ["Name", (one) => one.name],
    ["Held", (one) => one.held ?? "none"],
    ["Newest", (one) => one.newest],
    ["Urgency", (one) => element("span", { class: one.urgency === "security" ? "bad" : "" }, one.urgency)],
    ["Note", (one) => one.note],
  ], updates.updates, "Everything is up to date."), apply, ...doubts);
  try {
    const follows = await ask("follows");
    show(byId("follow-rows"), table("Names that are followed", [
      ["Name", (one) => one.name],
      ["Publisher", (one) => one.nickname ?? one.publisher],
      ["Newest", (one) => one.newest ?? ""],
      ["Fetched by itself", (one) => one.auto],
      ["Actions", (one) => button("Unfollow", async () => {
        await ask("unfollow", { target: `${one.publisher}/${one.name}` });
        document.activeElement?.blur();
        refreshUpdates();
      }, `Unfollow ${one.name}`)],
    ], follows.follows, "No name is followed."));
  } catch (error) { show(byId("follow-rows"), element("p", { class: "bad" }, error.message)); }
}

async function applyUpdates() {
  document.activeElement?.blur();
  try { await ask("updates", { apply: true }); } catch (error) { alert(error.message); }
  refreshUpdates();
}

byId("follow-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { target, auto } = event.target.elements;
  try { await ask("follow", { target: target.value.trim(), auto: auto.value }); event.target.reset(); }
  catch (error) { alert(error.message); }
  refreshUpdates();
});

// --- publish ------------------------------------------------------------------------

const drop = byId("drop-form"), zone = byId("drop-zone");
for (const kind of ["dragenter", "dragover"]) {
  zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
}
zone.addEventListener("dragleave", () => zone.classList.remove("over"));
zone.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  drop.elements.files.files = event.dataTransfer.files;
});

drop.addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = byId("drop-words"), fields = drop.elements;
  try {
    const files = [];
    for (const file of fields.files.files) {
      words.textContent = `sending ${file.name} to the node…`;
      files.push(await upload(file));
    }
    if (event.submitter.value === "share") {
      const shared = await ask("share", { files });
      words.textContent = `Shared: ${shared.artifacts.map((one) => one.digest).join(", ")}`;
    } else {
      const made = await ask("publish", {
        files, name: fields.name.value, version: fields.version.value,
        urgency: fields.urgency.value, note: fields.note.value,
      });
      words.textContent = `Published ${made.name} ${made.version}; ${made.alerted} of ${made.audience} nodes alerted.`;
    }
    drop.reset();
    refreshContent();
  } catch (error) { words.textContent = error.message; }
});

async function upload(file) {
  const answer = await fetch(`/api/upload?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.error ?? answer.statusText);
  return document.path;
}

// --- gateway, limits, health, log ---------------------------------------------------

function showGateway(gateway) {
  const rows = Object.entries(gateway).map(([source, one]) => ({ source, ...one }))
    .filter((one) => one.files || one.bytes);
  const served = rows.reduce((sum, one) => sum + one.bytes, 0);
  const saved = rows.filter((one) => one.source !== "origin").reduce((sum, one) => sum + one.bytes, 0);
  show(byId("gateway-rows"),
    table("Files for package managers, by source", [
      ["From", (one) => one.source],
      ["Files", (one) => one.files, "number"],
      ["Bytes", (one) => size(one.bytes), "number"],
    ], rows, "No package manager has asked yet; “caravan connect pip” prints the lines for pip."),
    element("p", {}, served ? `The origin did not have to send ${size(saved)} of ${size(served)}.` : ""));
}

function showLimits(limits) {
  const fields = byId("limits-form").elements;
  const words = (bytes) => bytes == null ? "no limit" : `${Math.round(bytes / 1024)} now`;
  fields.upload.placeholder = words(limits.upload_bytes_per_second);
  fields.download.placeholder = words(limits.download_bytes_per_second);
}

byId("limits-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { upload: up, download: down } = event.target.elements;
  const bytes = (field) => field.value ? Number(field.value) * 1024 : null;
  try {
    await ask("limit", { upload_bytes_per_second: bytes(up), download_bytes_per_second: bytes(down) });
    byId("limits-words").textContent = "Set.";
  } catch (error) { byId("limits-words").textContent = error.message; }
});

byId("health-check").addEventListener("click", async () => {
  const place = byId("health-rows");
  place.replaceChildren("checking…");
  try {
    const { checks } = await ask("doctor");
    place.replaceChildren(table("Findings", [
      ["Check", (one) => one.name],
      ["State", (one) => element("span", { class: one.ok ? "good" : "bad" }, one.ok ? "ok" : "wrong")],
      ["What to do", (one) => one.hint],
    ], checks, "Nothing to check."));
  } catch (error) { place.replaceChildren(error.message); }
});

function showLog(lines) {
  const place = byId("log-lines");
  const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 8;
  state.log = [...state.log, ...lines].slice(-500);
  place.textContent = state.log.map((one) =>
    `${new Date(one.at * 1000).toLocaleTimeString()} ${one.level} ${one.text}`).join("\n");
  if (atEnd) place.scrollTop = place.scrollHeight;
}

byId("content-filter").addEventListener("input", showContent);
byId("content-filter").addEventListener("submit", (event) => event.preventDefault());
byId("ring-form").addEventListener("submit", (event) => {
  event.preventDefault();
  lookUp(event.target.elements.digest.value.trim());
});

connect();
refreshUpdates();
setInterval(refreshUpdates, 15000);
