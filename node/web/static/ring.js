// The ring of node ids, and a lookup drawn on it hop by hop.

const NS = "http://www.w3.org/2000/svg";
const RADIUS = 100;

function shape(name, attributes, words) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (words) {
    const title = document.createElementNS(NS, "title");
    title.textContent = words;
    made.append(title);
  }
  return made;
}

// The place of an id, given in hex: its first 48 bits are as fine as a screen can show.
function place(id, radius = RADIUS) {
  const turn = (parseInt(id.slice(0, 12), 16) / 2 ** 48) * 2 * Math.PI;
  return [radius * Math.sin(turn), -radius * Math.cos(turn)];
}

function dot(id, radius, colour, words) {
  const [x, y] = place(id);
  return shape("circle", { cx: x, cy: y, r: radius, fill: colour }, words);
}

const COLOURS = { asked: "var(--warm)", answered: "var(--good)", failed: "var(--bad)", heard: "var(--line)" };

// `steps` are {node_id, address, state, hop}; `target` is the key in hex.
export function drawRing(own, peers, target, steps) {
  const view = shape("svg", { viewBox: "-120 -120 240 240", role: "img" });
  view.setAttribute("aria-label", `This node and ${peers.length} peers on the ring of ids`);
  view.append(shape("circle", { r: RADIUS, fill: "none", stroke: "var(--line)", "stroke-width": 1.5 }));
  for (const step of steps.filter((one) => one.state !== "heard")) {
    const [x, y] = place(own), [toX, toY] = place(step.node_id);
    view.append(shape("path", {
      d: `M${x} ${y}Q0 0 ${toX} ${toY}`, fill: "none",
      stroke: COLOURS[step.state], "stroke-width": 1, opacity: 0.7,
    }));
  }
  for (const peer of peers) view.append(dot(peer.node_id, 3, "var(--quiet)", `${peer.address}`));
  for (const step of steps) {
    view.append(dot(step.node_id, 4, COLOURS[step.state], `hop ${step.hop}: ${step.address}, ${step.state}`));
  }
  if (target) {
    const [x, y] = place(target, RADIUS + 10);
    view.append(shape("path", { d: `M${x - 5} ${y}h10M${x} ${y - 5}v10`, stroke: "var(--accent)", "stroke-width": 2.5 }, "what is looked for"));
  }
  view.append(dot(own, 6, "var(--accent)", "this node"));
  return view;
}
