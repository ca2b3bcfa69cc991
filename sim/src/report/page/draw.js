// The picture of the lanes, without what is selected. Drawn on a canvas of its own whenever the view
// changes; moving the pointer draws only the layer above it (`focus.js`).
//
// Only what is in view is visited, found by binary search, and no more than one mark a kind and pixel is
// drawn: a picture of 200,000 events costs no more than one walk over them. What was drawn is kept as
// `hits`, for the pointer, and counted in `drawn`, for tests.

const base = layer("base");
let hits = [];
let drawn = {};
let ink = {};

function layer(id) {
  const canvas = document.getElementById(id);
  return { canvas, context: canvas.getContext("2d") };
}

// Fits a canvas to its place and the screen's pixels; drawing is in CSS pixels.
function fit({ canvas, context }, width, height) {
  const scale = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
}

// The colours are those of the style sheet, so that dark and light are decided in one place.
function readInk() {
  const style = getComputedStyle(document.documentElement);
  ink = {};
  for (const name of [
    "ground", "lane", "line", "text", "faint", "accent", "violation",
    "leader", "follower", "candidate", "learner", "paused", "on-leader", "on-role",
    "good", "good-soft", "failed", "failed-soft", "unknown", "unknown-soft",
    "append", "heartbeat", "vote", "read", "snapshot", "other", "lost",
    "commit", "applied", "write", "sync", "cut", "fault", "fault-soft", "marker", "revision",
  ]) {
    ink[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

const SMALL = "10px system-ui, 'DejaVu Sans', sans-serif";
const PLAIN = "11px system-ui, 'DejaVu Sans', sans-serif";
const BOLD = "600 12px system-ui, 'DejaVu Sans', sans-serif";

function hit(left, right, top, bottom, place) {
  hits.push({ left, right, top, bottom, place });
}

function tally(name, by = 1) {
  drawn[name] = (drawn[name] ?? 0) + by;
}

function drawBase() {
  const { context } = base;
  fit(base, view.width, view.height);
  hits = [];
  drawn = { lanes: layout.lanes.length };
  context.save();
  context.beginPath();
  context.rect(GUTTER, AXIS, plotWidth(), view.height - AXIS);
  context.clip();
  drawGrid(context);
  drawFaultBands(context);
  for (const lane of layout.lanes) {
    if (lane.top + lane.height < AXIS || lane.top > view.height) continue;
    DRAW_LANE[lane.kind](context, lane);
  }
  drawMessages(context);
  context.restore();
  drawAxis(context);
}

// A text cut to a width, at the middle of its height.
function label(context, text, x, y, width, font = PLAIN) {
  if (width < 12) return;
  context.font = font;
  context.textBaseline = "middle";
  let shown = visible(text);
  if (context.measureText(shown).width > width) {
    const average = context.measureText(shown).width / shown.length;
    shown = shown.slice(0, Math.max(0, Math.floor(width / average) - 1)) + "…";
    if (shown.length < 3) return;
  }
  context.fillText(shown, x, y);
}

// Steps of time such that labels have room: 1, 2 or 5 of a power of ten.
function timeStep() {
  const least = ((view.to - view.from) / plotWidth()) * 90;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= least);
}

function* timeTicks() {
  const step = timeStep();
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) yield at;
}

function drawGrid(context) {
  context.fillStyle = ink.line;
  for (const at of timeTicks()) context.fillRect(Math.round(toX(at)), AXIS, 1, view.height);
}

function drawAxis(context) {
  const decimals = Math.max(0, Math.min(9, -Math.floor(Math.log10(timeStep() / 1e9))));
  context.fillStyle = ink.ground;
  context.fillRect(0, 0, view.width, AXIS);
  context.fillStyle = ink.line;
  context.fillRect(0, AXIS - 1, view.width, 1);
  context.fillStyle = ink.faint;
  for (const at of timeTicks()) {
    const x = toX(at);
    if (x > view.width - 40) continue;
    context.fillRect(Math.round(x), AXIS - 6, 1, 6);
    label(context, `${seconds(at, decimals)} s`, x + 4, AXIS / 2, 88, SMALL);
  }
}

// A fault is a band behind the lanes of its member, or of all.
function drawFaultBands(context) {
  if (hidden.kinds.has("fault")) return;
  for (const place of faults) {
    const fault = events[place];
    if (!shows(fault) || fault.at > view.to || Math.max(fault.until, fault.at) < view.from) continue;
    const struck = membersOf(fault);
    const lanes = layout.lanes.filter((lane) =>
      lane.kind === "member" && (struck.size === 0 || struck.has(lane.member.number)));
    const left = toX(fault.at);
    const right = fault.until > 0 ? Math.max(toX(fault.until), left + 1) : left + 1.5;
    for (const lane of lanes) {
      context.fillStyle = fault.until > 0 ? ink["fault-soft"] : ink.fault;
      context.fillRect(left, lane.top - 3, right - left, lane.height - 4);
    }
    tally("bands");
  }
}

// The members that a fault is about: its own, or those that it names; none when it is about all.
function membersOf(fault) {
  if (fault.member > 0) return new Set([fault.member]);
  const named = fault.text.matchAll(/\bMember\((\d+)\)|\bm(\d+)\b/g);
  return new Set([...named].map((match) => Number(match[1] ?? match[2])));
}

const DRAW_LANE = {
  phases(context, lane) {
    phases.forEach((place, position) => {
      const phase = events[place];
      const next = position + 1 < phases.length ? events[phases[position + 1]].at : whole.to;
      if (next < view.from || phase.at > view.to) return;
      const left = Math.max(toX(phase.at), GUTTER - 1);
      const right = Math.min(toX(next), view.width);
      context.fillStyle = position % 2 === 0 ? ink.lane : ink.line;
      context.fillRect(left, lane.top + 2, right - left - 1, lane.height - 4);
      context.fillStyle = ink.text;
      label(context, phase.name, left + 6, lane.top + lane.height / 2, right - left - 10, SMALL);
      hit(left, right, lane.top, lane.top + lane.height, place);
      tally("phases");
    });
  },

  faults(context) {
    const ends = [];
    const nextInRow = new Array(faults.length).fill(Infinity);
    for (let position = faults.length - 1; position >= 0; position--) {
      nextInRow[position] = ends[faultRows[position]] ?? Infinity;
      ends[faultRows[position]] = events[faults[position]].at;
    }
    faults.forEach((place, position) => {
      const fault = events[place];
      if (!shows(fault) || fault.at > view.to || Math.max(fault.until, fault.at) < view.from) return;
      const spot = spotOf(place);
      const left = Math.max(spot.left, GUTTER - 2);
      context.fillStyle = ink.fault;
      if (fault.until > 0) {
        context.globalAlpha = 0.3;
        context.fillRect(left, spot.top, Math.max(spot.right - left, 2), spot.bottom - spot.top);
        context.globalAlpha = 1;
      }
      context.fillRect(spot.left, spot.top, 3, spot.bottom - spot.top);
      const end = Math.min(toX(nextInRow[position]), view.width);
      context.fillStyle = ink.text;
      label(context, fault.text, left + 6, (spot.top + spot.bottom) / 2, end - left - 10, SMALL);
      hit(left, Math.max(spot.right, left + 6), spot.top, spot.bottom, place);
      tally("faults");
    });
  },

  markers(context, lane) {
    let last = -Infinity;
    const visibleMarkers = markers.slice(firstFrom(markers, view.from));
    visibleMarkers.forEach((place, position) => {
      const marker = events[place];
      if (marker.at > view.to || !shows(marker)) return;
      const x = toX(marker.at);
      if (x - last < 1.5) return;
      last = x;
      const middle = lane.top + lane.height / 2;
      context.fillStyle = ink.marker;
      context.beginPath();
      context.moveTo(x, middle - 4);
      context.lineTo(x + 4, middle);
      context.lineTo(x, middle + 4);
      context.lineTo(x - 4, middle);
      context.fill();
      const next = visibleMarkers[position + 1];
      const room = (next === undefined ? view.width : toX(events[next].at)) - x - 12;
      context.fillStyle = ink.faint;
      label(context, marker.name, x + 7, middle, room, SMALL);
      hit(x - 4, x + 4, lane.top, lane.top + lane.height, place);
      tally("markers");
    });
  },

  member(context, lane) {
    drawSteps(context, lane);
    drawRole(context, lane);
    drawDisk(context, lane);
  },

  client(context, lane) {
    context.fillStyle = ink.lane;
    context.fillRect(GUTTER, lane.top + 1, plotWidth(), lane.height - 2);
    drawOperations(context, lane);
  },

  stream(context, lane) {
    for (const stream of lane.streams) drawStream(context, lane, stream);
  },
};

const ROLE_INK = { leader: "leader", candidate: "candidate", learner: "learner" };

function roleInk(role) {
  return ROLE_INK[role] ?? (/candidate/.test(role) ? "candidate" : "follower");
}

// The role as a bar: coloured while up, hatched while paused, empty while down.
function drawRole(context, lane) {
  if (hidden.kinds.has("role")) return;
  const { top, height } = lane.role;
  for (const segment of lane.member.segments) {
    if (segment.to < view.from || segment.from > view.to) continue;
    const left = Math.max(toX(segment.from), GUTTER - 4);
    const right = Math.min(toX(segment.to), view.width + 4);
    const width = Math.max(right - left, 0.75);
    if (segment.status === "down") {
      // Nothing of the member is there while it is down.
      context.fillStyle = ink.ground;
      context.fillRect(left, top, width, lane.bottom - top);
      context.fillStyle = ink.line;
      context.fillRect(left, top + height / 2, width, 1);
      context.fillStyle = ink.faint;
      label(context, "down", left + 6, top + height / 2 - 1, width - 10, SMALL);
    } else {
      context.fillStyle = segment.role === "" ? ink.line : ink[roleInk(segment.role)];
      context.fillRect(left, top, width, height);
      if (segment.status === "paused") hatch(context, left, top, width, height);
      context.fillStyle = segment.role === "leader" ? ink["on-leader"] : ink["on-role"];
      const paused = segment.status === "paused" ? "paused, " : "";
      const text = segment.role === "" ? "up" : `${segment.role}, term ${segment.term}`;
      label(context, paused + text, left + 6, top + height / 2 + 0.5, width - 10, SMALL);
    }
    hit(left, right, top, top + height, segment.place);
    tally("roles");
  }
}

function hatch(context, left, top, width, height) {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.fillStyle = ink.paused;
  context.fillRect(left, top, width, height);
  context.strokeStyle = ink.ground;
  context.globalAlpha = 0.5;
  context.lineWidth = 3;
  context.beginPath();
  for (let x = left - height - (left % 8); x < left + width; x += 8) {
    context.moveTo(x, top + height);
    context.lineTo(x + height, top);
  }
  context.stroke();
  context.restore();
}

// The range of values that the steps of all lanes share, so that a member that is behind stands lower.
function stepRange() {
  let [least, most] = [Infinity, -Infinity];
  for (const member of shownMembers()) {
    for (const at of [view.from, view.to]) {
      const progress = progressAt(member, at);
      least = Math.min(least, progress ? progress.applied : 0);
      most = Math.max(most, progress ? progress.commit : 0);
    }
  }
  return { least, most: Math.max(most, least + 1) };
}

// Positions in a list of places of what is in view, and of as many before it: all of them, or the last of
// each pixel when they are crowded.
function positionsInView(places, before = 0) {
  const first = Math.max(0, firstFrom(places, view.from) - before);
  const last = firstFrom(places, view.to) - 1;
  const positions = [];
  if (last - first < 2 * plotWidth()) {
    for (let position = first; position <= last; position++) positions.push(position);
    return positions;
  }
  for (let x = GUTTER; x <= view.width; x++) {
    const position = firstFrom(places, toTime(x + 1)) - 1;
    if (position >= first && position !== positions[positions.length - 1]) positions.push(position);
  }
  return positions;
}

function drawSteps(context, lane) {
  const { top, height } = lane.steps;
  const { progress } = lane.member;
  if (height <= 0 || progress.length === 0) return;
  const { least, most } = stepRange();
  const bottom = top + height;
  const y = (value) => Math.min(bottom, bottom - 1 - ((value - least) / (most - least)) * (height - 3));
  const shown = positionsInView(progress, 1).map((position) => events[progress[position]]);
  if (shown.length === 0) return;
  for (const [field, width] of [["commit", 1], ["applied", 1.75]]) {
    context.strokeStyle = ink[field];
    context.lineWidth = width;
    context.beginPath();
    let level = y(shown[0][field]);
    context.moveTo(toX(shown[0].at), level);
    for (const event of shown) {
      const x = toX(event.at);
      context.lineTo(x, level);
      level = y(event[field]);
      context.lineTo(x, level);
    }
    context.lineTo(view.width, level);
    context.stroke();
  }
  for (const event of shown) hit(toX(event.at) - 2, toX(event.at) + 2, top, bottom, event.place);
  tally("steps", shown.length);
}

// How each disk action is marked: colour, width, and its share of the height.
const DISK_MARKS = {
  write: ["write", 1, 0.55],
  sync: ["sync", 1.25, 1],
  sync_folder: ["sync", 1, 0.75],
  failed: ["cut", 3, 1],
  damaged: ["cut", 3, 1],
  cut: ["cut", 4, 1],
};

function drawDisk(context, lane) {
  if (lane.disk.height <= 0) return;
  const { usual, wrong } = listedDisk.get(lane.member.number);
  const positions = positionsInView(usual);
  // So many that they touch: paler, so that a cut stands out.
  const crowded = positions.length > plotWidth() / 3;
  for (const position of positions) drawDiskMark(context, lane.disk, events[usual[position]], crowded ? 0.4 : 1);
  let labelled = -Infinity;
  for (const position of positionsInView(wrong)) {
    const event = events[wrong[position]];
    const x = drawDiskMark(context, lane.disk, event, 1);
    if (x - labelled > 60) label(context, event.action, x + 5, lane.disk.top + lane.disk.height / 2, 60, SMALL);
    labelled = x;
    tally("cuts");
  }
}

function drawDiskMark(context, { top, height }, event, alpha) {
  const x = toX(event.at);
  const [colour, width, share] = DISK_MARKS[event.action] ?? ["write", 1, 0.4];
  context.fillStyle = ink[colour];
  context.globalAlpha = alpha;
  context.fillRect(x - width / 2, top + height * (1 - share), width, height * share);
  context.globalAlpha = 1;
  hit(x - 1.5, x + 1.5, top, top + height, event.place);
  tally("disk");
  return x;
}

// Operations as bars. A client's operations do not overlap, so those in view are next to each other.
function drawOperations(context, lane) {
  const list = lane.client.operations;
  let position = 0;
  let high = list.length;
  while (position < high) {
    const middle = (position + high) >>> 1;
    if ((list[middle].returned ?? Infinity) < view.from) position = middle + 1;
    else high = middle;
  }
  let lastRight = -Infinity;
  let lastOutcome = "";
  for (; position < list.length && list[position].called <= view.to; position++) {
    const operation = list[position];
    const spot = operationBox(operation);
    // Many to a pixel: one stands for all of its outcome.
    if (spot.right - lastRight < 1 && operation.outcome === lastOutcome) continue;
    lastRight = spot.right;
    lastOutcome = operation.outcome;
    drawOperation(context, operation, spot);
    hit(spot.left, spot.right, spot.top, spot.bottom, operation.call);
    tally("bars");
    tally(operation.outcome);
  }
}

function drawOperation(context, operation, spot) {
  const left = Math.max(spot.left, GUTTER - 8);
  const right = Math.min(spot.right, view.width + 8);
  const [width, height] = [right - left, spot.bottom - spot.top];
  const colour = operation.outcome in { good: 1, failed: 1 } ? operation.outcome : "unknown";
  context.fillStyle = width < 5 ? ink[colour] : ink[`${colour}-soft`];
  context.fillRect(left, spot.top, width, height);
  if (width < 5) return;
  context.strokeStyle = ink[colour];
  context.lineWidth = 1;
  if (colour === "unknown") context.setLineDash([3, 2]);
  context.strokeRect(left + 0.5, spot.top + 0.5, width - 1, height - 1);
  context.setLineDash([]);
  context.fillStyle = ink[colour];
  context.fillRect(left, spot.top, 3, height);
  const middle = (spot.top + spot.bottom) / 2 + 0.5;
  let room = width - 10;
  if (colour === "failed" && width > 20) {
    label(context, "✕", right - 12, middle, 14, SMALL);
    room -= 12;
  }
  context.fillStyle = ink.text;
  const result = operation.result === "" ? "" : ` → ${operation.result}`;
  label(context, operation.text + result, left + 7, middle, room, SMALL);
}

// A watch stream: a thin line while it is open, a tick for each word, with the revision where it fits, and
// a cross where it ended.
function drawStream(context, lane, stream) {
  const { words: places } = stream;
  const middle = lane.top + lane.height / 2;
  const [first, last] = [events[places[0]], events[places[places.length - 1]]];
  if (last.at < view.from || first.at > view.to) return;
  context.fillStyle = ink.line;
  context.fillRect(toX(first.at), middle - 1, toX(last.at) - toX(first.at), 2);
  let lastX = -Infinity;
  for (let position = firstFrom(places, view.from); position < places.length; position++) {
    const event = events[places[position]];
    if (event.at > view.to) break;
    const x = toX(event.at);
    if (x - lastX < 1 && event !== last) continue;
    lastX = x;
    drawWord(context, lane, event);
    const next = position + 1 < places.length ? toX(times[places[position + 1]]) : Infinity;
    const text = event === first ? `w${stream.number}` : event.revision > 0 ? String(event.revision) : "";
    if (next - x > 34) {
      context.fillStyle = event === first ? ink.faint : ink.text;
      label(context, text, x + 5, middle, 30, SMALL);
    }
    hit(x - 2, x + 2, lane.top, lane.top + lane.height, event.place);
    tally("words");
  }
}

function drawWord(context, lane, event) {
  const [x, middle] = [toX(event.at), lane.top + lane.height / 2];
  if (event.heard && !/^end/.test(event.text)) {
    context.fillStyle = ink.revision;
    context.fillRect(x - 1, lane.top + 3, 2, lane.height - 6);
  } else if (event.heard) {
    context.fillStyle = ink.failed;
    label(context, "✕", x - 4, middle, 14, SMALL);
  } else {
    context.fillStyle = ink.faint;
    context.beginPath();
    context.arc(x, middle, 2.5, 0, Math.PI * 2);
    context.fill();
  }
}
