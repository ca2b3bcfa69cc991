// Messages and snapshots between the lanes of members: as arrows while they can be told apart, else as a
// strip of traffic under each sender, where losses stand out.

// With more messages a pixel than this, arrows would be a smear.
const MOST_ARROWS_PER_PIXEL = 0.8;

const MESSAGE_WIDTH = { heartbeat: 0.6, append: 1, vote: 1.4, read: 0.8, other: 0.8, snapshot: 3 };

// The longest that a message was under way: how far back one must look for those that arrive in view.
// The few that took very long are kept apart, so that they do not make every picture slow.
const LONG_WAY = 1e9;
const [longMessages, longestWay] = (() => {
  const long = messages.filter((place) => wayOf(events[place]) > LONG_WAY);
  const longest = messages.reduce((most, place) => {
    const way = wayOf(events[place]);
    return way > LONG_WAY ? most : Math.max(most, way);
  }, usualLatency);
  return [long, longest];
})();

function wayOf(message) {
  return message.arrives > 0 ? message.arrives - message.at : 0;
}

// The part of the shown messages that were sent in view, or may arrive in it.
function messagesInView() {
  const start = view.from - longestWay;
  const near = listedMessages.slice(firstFrom(listedMessages, start), firstFrom(listedMessages, view.to));
  const long = longMessages.filter((place) =>
    times[place] < start && events[place].arrives >= view.from && shows(events[place]));
  return long.concat(near);
}

function drawMessages(context) {
  if (hidden.kinds.has("message")) return;
  const places = messagesInView();
  const most = MOST_ARROWS_PER_PIXEL * plotWidth();
  if (places.length <= most) {
    drawArrows(context, places);
    return;
  }
  // Of those, what is not a heartbeat may still be few; and snapshots are always seen.
  const only = (wanted) => places.filter((place) => wanted(messageClass(events[place])));
  const telling = places.length < 20 * most ? only((kind) => kind !== "heartbeat") : places;
  const arrows = telling.length <= most ? telling : only((kind) => kind === "snapshot");
  drawTraffic(context, places);
  drawArrows(context, arrows);
  tally("aggregated", places.length - arrows.length);
}

function drawArrows(context, places) {
  // One path for all of a style: far quicker than one for each arrow.
  const styles = new Map();
  for (const place of places) {
    const event = events[place];
    const wire = wireOf(event);
    if (!wire) continue;
    const kind = messageClass(event);
    const fate = event.kind === "snapshot" ? (event.ok ? "delivered" : "lost") : event.fate;
    const key = `${kind} ${fate}`;
    if (!styles.has(key)) styles.set(key, { kind, fate, wires: [] });
    styles.get(key).wires.push(wire);
    hits.push({ place, line: wire });
    tally("arrows");
    tally(fate);
  }
  for (const { kind, fate, wires } of styles.values()) {
    const lost = fate === "lost";
    context.strokeStyle = context.fillStyle = lost ? ink.lost : ink[kind];
    context.lineWidth = MESSAGE_WIDTH[kind];
    context.globalAlpha = kind === "heartbeat" && !lost ? 0.6 : 0.95;
    context.setLineDash(lost ? [4, 3] : fate === "replayed" ? [1, 3] : []);
    context.beginPath();
    for (const wire of wires) {
      context.moveTo(wire.fromX, wire.fromY);
      context.lineTo(wire.toX, wire.toY);
    }
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
    for (const wire of wires) drawEnd(context, wire, fate);
  }
}

// How an arrow ends: a cross when it was lost, a head when it arrived, with what was unusual about it.
function drawEnd(context, wire, fate) {
  const { toX: x, toY: y } = wire;
  if (fate === "lost") {
    context.lineWidth = 1.75;
    context.beginPath();
    context.moveTo(x - 3.5, y - 3.5);
    context.lineTo(x + 3.5, y + 3.5);
    context.moveTo(x + 3.5, y - 3.5);
    context.lineTo(x - 3.5, y + 3.5);
    context.stroke();
    return;
  }
  const back = wire.down ? -5 : 5;
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - 2.5, y + back);
  context.lineTo(x + 2.5, y + back);
  context.fill();
  const mark = { duplicated: "×2", replayed: "↻", delayed: "◷" }[fate];
  if (mark) label(context, mark, x + 4, y + back, 16, BOLD);
}

// How many messages each member sent, pixel by pixel, and how many of them were lost.
function drawTraffic(context, places) {
  const width = Math.ceil(view.width) + 1;
  const sent = new Map();
  const lost = new Map();
  let most = 1;
  for (const place of places) {
    const event = events[place];
    if (event.kind === "snapshot") continue;
    const x = Math.floor(toX(event.at));
    if (x < GUTTER || x >= width) continue;
    const table = event.fate === "lost" ? lost : sent;
    if (!table.has(event.member)) table.set(event.member, new Uint32Array(width));
    const counts = table.get(event.member);
    counts[x] += 1;
    most = Math.max(most, counts[x]);
  }
  for (const [number, lane] of layout.members) {
    const height = lane.top + lane.height - lane.bottom - 3;
    for (const [table, colour] of [[sent, ink.append], [lost, ink.lost]]) {
      const counts = table.get(number);
      if (!counts) continue;
      context.fillStyle = colour;
      for (let x = GUTTER; x < width; x++) {
        if (counts[x] === 0) continue;
        const bar = Math.max(1.5, height * Math.sqrt(counts[x] / most));
        context.fillRect(x, lane.bottom + 1, 1, bar);
      }
    }
    tally("traffic");
  }
}
