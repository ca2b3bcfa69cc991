// Where everything is drawn, from top to bottom:
//
//   time
//   phases | faults | markers
//   m1   role and term
//        commit and applied, as steps
//        disk
//   m2   ...
//   c1   operations
//   c1   words of its watch streams
//
// A layout is made anew for each picture, in pixels of the screen. Lanes are squeezed or stretched a
// little to fill the height; what is still too high is scrolled.

const PHASE_HEIGHT = 18;
const FAULT_HEIGHT = 15;
const MOST_FAULT_ROWS = 5;
const MARKER_HEIGHT = 14;
const CLIENT_HEIGHT = 21;
const STREAM_HEIGHT = 17;
const ROLE_HEIGHT = 17;
const STEPS_HEIGHT = 28;
const DISK_HEIGHT = 12;
const WIRE_GAP = 15;
const SECTION_GAP = 8;

let layout = { lanes: [], height: 0, members: new Map(), clients: new Map(), streams: new Map() };

// The row of each fault, such that those of one row do not overlap while there are rows.
const faultRows = (() => {
  const ends = [];
  return faults.map((place) => {
    const fault = events[place];
    let row = ends.findIndex((end) => end <= fault.at);
    if (row < 0) row = Math.min(ends.length, MOST_FAULT_ROWS - 1);
    ends[row] = Math.max(fault.until, fault.at + 1);
    return row;
  });
})();
const faultRowCount = faultRows.length > 0 ? Math.max(...faultRows) + 1 : 0;

function shownMembers() {
  return [...members.values()].filter((member) => !hidden.members.has(member.number)).sort(byNumber);
}

function shownClients() {
  if (hidden.kinds.has("call")) return [];
  const shown = [...clients.values()].filter((client) => !hidden.clients.has(client.number));
  return shown.filter((client) => client.operations.length > 0).sort(byNumber);
}

// Watch streams, lane by lane: a client's streams that follow one another share one.
const streamLanes = (() => {
  const lanes = [];
  const end = (stream) => times[stream.words[stream.words.length - 1]];
  for (const stream of [...streams.values()].sort((one, other) => one.client - other.client || byNumber(one, other))) {
    const free = (lane) => lane[0].client === stream.client && end(lane[lane.length - 1]) <= times[stream.words[0]];
    const lane = lanes.find(free);
    if (lane) lane.push(stream);
    else lanes.push([stream]);
  }
  return lanes;
})();

function shownStreamLanes() {
  if (hidden.kinds.has("watch")) return [];
  return streamLanes.filter((lane) => !hidden.clients.has(lane[0].client));
}

function byNumber(one, other) {
  return one.number - other.number;
}

function layOut() {
  const [memberList, clientList, streamList] = [shownMembers(), shownClients(), shownStreamLanes()];
  const faultHeight = hidden.kinds.has("fault") ? 0 : faultRowCount * FAULT_HEIGHT;
  const markerHeight = hidden.kinds.has("marker") || markers.length === 0 ? 0 : MARKER_HEIGHT;
  const steps = hidden.kinds.has("progress") ? 0 : STEPS_HEIGHT;
  const disk = hidden.kinds.has("disk") ? 0 : DISK_HEIGHT;
  const fixed = PHASE_HEIGHT + faultHeight + markerHeight + SECTION_GAP * 3;
  const elastic =
    memberList.length * (ROLE_HEIGHT + steps + disk + WIRE_GAP) +
    clientList.length * CLIENT_HEIGHT +
    streamList.length * STREAM_HEIGHT;
  const stretch = Math.min(1.5, Math.max(0.72, (view.height - AXIS - fixed) / Math.max(1, elastic)));

  const lanes = [];
  let y = AXIS - view.top;
  const add = (height, lane) => {
    lanes.push({ top: y, height, ...lane });
    y += height;
    return lanes[lanes.length - 1];
  };
  add(PHASE_HEIGHT, { kind: "phases", label: "phase" });
  if (faultHeight > 0) add(faultHeight, { kind: "faults", label: "faults" });
  if (markerHeight > 0) add(markerHeight, { kind: "markers", label: "markers" });
  y += SECTION_GAP;
  const laneOf = { members: new Map(), clients: new Map(), streams: new Map() };
  for (const member of memberList) {
    const parts = [ROLE_HEIGHT, steps, disk].map((part) => part * stretch);
    const lane = add(parts[0] + parts[1] + parts[2] + WIRE_GAP * stretch, { kind: "member", member });
    lane.label = `m${member.number}`;
    lane.role = { top: lane.top, height: parts[0] };
    lane.steps = { top: lane.top + parts[0] + 2, height: Math.max(0, parts[1] - 4) };
    lane.disk = { top: lane.top + parts[0] + parts[1], height: parts[2] };
    lane.bottom = lane.disk.top + lane.disk.height;
    laneOf.members.set(member.number, lane);
  }
  for (const client of clientList) {
    const lane = add(CLIENT_HEIGHT * stretch, { kind: "client", client, label: `c${client.number}` });
    laneOf.clients.set(client.number, lane);
  }
  if (streamList.length > 0) y += SECTION_GAP;
  for (const list of streamList) {
    const asked = new Set(list.map((stream) => stream.member));
    const detail = asked.size === 1 ? `watches m${list[0].member}` : "watches";
    const label = `c${list[0].client}`;
    const lane = add(STREAM_HEIGHT * stretch, { kind: "stream", streams: list, label, detail });
    for (const stream of list) laneOf.streams.set(stream.number, lane);
  }
  layout = { lanes, height: y + SECTION_GAP - AXIS + view.top, ...laneOf };
}

// Where an event is, as a box on the screen; null when it has no place there, or its lane is hidden.
function spotOf(place) {
  const event = events[place];
  const spot = SPOTS[event.kind];
  return spot ? spot(event) : null;
}

function box(left, right, top, height) {
  return { left, right: Math.max(right, left + 2), top, bottom: top + height };
}

function tickBox(at, part) {
  return box(toX(at) - 1.5, toX(at) + 1.5, part.top, part.height);
}

const SPOTS = {
  call: (event) => operationBox(operations.get(event.operation)),
  return: (event) => operationBox(operations.get(event.operation)),
  watch(event) {
    const lane = layout.streams.get(event.stream);
    return lane ? tickBox(event.at, { top: lane.top + 2, height: lane.height - 4 }) : null;
  },
  role: (event) => memberBox(event, "role"),
  life: (event) => memberBox(event, "role"),
  connection: (event) => memberBox(event, "role"),
  progress: (event) => memberBox(event, "steps"),
  disk: (event) => memberBox(event, "disk"),
  message(event) {
    const wire = wireOf(event);
    if (!wire) return null;
    const [top, bottom] = [Math.min(wire.fromY, wire.toY), Math.max(wire.fromY, wire.toY)];
    return { left: wire.fromX, right: wire.toX, top, bottom, wire };
  },
  snapshot: (event) => SPOTS.message(event),
  fault(event) {
    const lane = layout.lanes.find((one) => one.kind === "faults");
    if (!lane) return null;
    const row = faultRows[faults.indexOf(event.place)];
    const right = event.until > 0 ? toX(event.until) : toX(event.at) + 6;
    return box(toX(event.at), right, lane.top + row * FAULT_HEIGHT + 1, FAULT_HEIGHT - 2);
  },
  marker: (event) => sectionBox(event, "markers"),
  phase: (event) => sectionBox(event, "phases"),
};

function memberBox(event, part) {
  const lane = layout.members.get(event.member);
  return lane && lane[part].height > 0 ? tickBox(event.at, lane[part]) : null;
}

function sectionBox(event, kind) {
  const lane = layout.lanes.find((one) => one.kind === kind);
  return lane ? tickBox(event.at, lane) : null;
}

function operationBox(operation) {
  const lane = operation && layout.clients.get(operation.client);
  if (!lane) return null;
  const right = toX(operation.returned ?? whole.to);
  return box(toX(operation.called), right, lane.top + 2, lane.height - 4);
}

// The way of a message between two lanes. One that was lost stops on its way.
function wireOf(event) {
  const from = layout.members.get(event.member);
  const to = layout.members.get(event.to);
  if (!from || !to || from === to) return null;
  const down = to.top > from.top;
  const lost = event.kind === "message" && event.fate === "lost";
  const arrives = event.kind === "snapshot" ? event.at : lost ? event.at + usualLatency : event.arrives;
  const fromY = down ? from.bottom + 1 : from.role.top - 1;
  const toY = down ? to.role.top - 1 : to.bottom + 1;
  const share = lost || event.ok === false ? 0.6 : 1;
  const [fromX, endX] = [toX(event.at), toX(arrives)];
  return { fromX, fromY, toX: fromX + (endX - fromX) * share, toY: fromY + (toY - fromY) * share, down };
}

// What a message usually takes: how far one would have come that was lost.
const usualLatency = (() => {
  const sample = messages.filter((place) => events[place].kind === "message" && events[place].arrives > 0);
  const times = sample.slice(0, 999).map((place) => events[place].arrives - events[place].at);
  return times.sort((one, other) => one - other)[times.length >> 1] ?? 1e6;
})();

// Scrolls so that the lanes of these facts are seen.
function showLanesOf(facts) {
  layOut();
  const lanes = facts.map((fact) => {
    if (fact.operation) return layout.clients.get(fact.operation.client);
    return fact.stream ? layout.streams.get(fact.stream.number) : null;
  });
  const bottom = Math.max(0, ...lanes.filter(Boolean).map((lane) => lane.top + lane.height));
  if (bottom > view.height) scrollTo(view.top + bottom - view.height + 20);
}
