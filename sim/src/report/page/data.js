// The run: its events as objects, in order of time, and what is put together from them.
//
// members     number -> { number, segments, progress, life }         places of events, but for segments
// operations  number -> a call with its return                       a bar of a client's lane
// clients     number -> { number, operations }
// streams     number -> { number, client, member, words }            words are places of events
//
// A "place" is the position of an event in `events`. It is what selection, hits and links speak of; the
// number of an event, which the log of the run and the address line show, may have gaps.

const mistakes = [];
window.addEventListener("error", (event) => mistake(event.message));
window.addEventListener("unhandledrejection", (event) => mistake(String(event.reason)));

// An error of this script is shown, not hidden: a page that looks whole but is not would mislead.
function mistake(message) {
  mistakes.push(message);
  const banner = document.getElementById("mistake");
  banner.hidden = false;
  banner.textContent = `This page has an error: ${message}`;
}

const data = JSON.parse(document.getElementById("data").textContent);
const run = data.run;
const events = decode(data);
// The time of each event by its place: searches walk over these, not over the events.
const times = Float64Array.from(events, (event) => event.at);
const placeOfNumber = new Map(events.map((event) => [event.number, event.place]));

const members = new Map();
const operations = new Map();
const clients = new Map();
const streams = new Map();
const messages = [];
const faults = [];
const phases = [];
const markers = [];
const violations = [];
function decode({ kinds, texts, rows }) {
  let number = 0;
  let at = 0;
  return rows.map((row, place) => {
    number += row[0];
    at += row[1];
    const [kind, fields] = kinds[row[3]];
    const event = { place, number, at, member: row[2], kind };
    fields.forEach(([name, isText], field) => {
      const value = row[4 + field];
      event[name] = isText ? texts[value] : value;
    });
    return event;
  });
}

// From the first event to the last thing that is known to happen, with a little air.
function wholeSpan() {
  if (events.length === 0) return { from: 0, to: Math.max(run.simulated, 1) };
  const from = events[0].at;
  const to = Math.max(events[events.length - 1].at, run.simulated, from + 1000);
  const air = (to - from) * 0.01;
  return { from: from - air, to: to + air };
}

function gather() {
  for (let number = 1; number <= run.members; number++) memberOf(number);
  for (const event of events) {
    const collect = COLLECT[event.kind];
    if (collect) collect(event);
  }
  for (const member of members.values()) closeSegment(member, Infinity);
}

const COLLECT = {
  message(event) {
    messages.push(event.place);
    memberOf(event.member);
    memberOf(event.to);
  },
  snapshot: (event) => COLLECT.message(event),
  role(event) {
    const member = memberOf(event.member);
    const { status } = member.now;
    change(member, event, {
      status: status === "paused" ? status : "up",
      role: event.role,
      term: event.term,
      leader: event.leader,
    });
  },
  progress(event) {
    const member = memberOf(event.member);
    if (member.now.status === "") change(member, event, { status: "up" });
    member.progress.push(event.place);
  },
  disk: (event) => memberOf(event.member),
  life(event) {
    const member = memberOf(event.member);
    member.life.push(event.place);
    const status = statusAfter(event.change);
    if (status === "") return;
    // Who starts anew knows no role yet; who goes on after a pause is what it was.
    const forgets = status === "down" || (status === "up" && member.now.status !== "paused");
    change(member, event, forgets ? { status, role: "", term: 0, leader: 0 } : { status });
  },
  call(event) {
    const operation = operationOf(event);
    operation.call = event.place;
    operation.called = event.at;
    operation.member = event.member;
    operation.text = event.text;
  },
  return(event) {
    const operation = operationOf(event);
    operation.answer = event.place;
    operation.returned = event.at;
    operation.outcome = event.outcome;
    operation.result = event.text;
    operation.revision = event.revision;
    operation.index = event.index;
  },
  watch(event) {
    let stream = streams.get(event.stream);
    if (!stream) {
      stream = { number: event.stream, client: event.client, member: event.member, words: [] };
      streams.set(event.stream, stream);
      clientOf(event.client);
    }
    stream.words.push(event.place);
  },
  fault: (event) => faults.push(event.place),
  phase: (event) => phases.push(event.place),
  marker: (event) => markers.push(event.place),
  violation: (event) => violations.push(event.place),
};

function memberOf(number) {
  if (!members.has(number)) {
    const now = { from: -Infinity, to: Infinity, status: "", role: "", term: 0, leader: 0, place: -1 };
    members.set(number, { number, now, segments: [], progress: [], life: [] });
  }
  return members.get(number);
}

function clientOf(number) {
  if (!clients.has(number)) clients.set(number, { number, operations: [] });
  return clients.get(number);
}

// The bar of an operation. When the trace holds only one end of it, that end stands for both.
function operationOf(event) {
  let operation = operations.get(event.operation);
  if (!operation) {
    operation = {
      number: event.operation, client: event.client, member: event.member,
      call: event.place, answer: -1, called: event.at, returned: null,
      text: "", outcome: "open", result: "", revision: 0, index: 0,
    };
    operations.set(event.operation, operation);
    clientOf(event.client).operations.push(operation);
  }
  return operation;
}

// A stretch of time in which a member's status, role, term and leader stayed the same.
function change(member, event, changes) {
  closeSegment(member, event.at);
  member.now = { ...member.now, ...changes, from: event.at, to: Infinity, place: event.place };
}

function closeSegment(member, at) {
  member.now.to = at;
  if (member.now.from < at && member.now.place >= 0) member.segments.push(member.now);
}

// What a member is after a change that is told in words: the word that comes first decides, so that
// "started after a power cut" is up and "killed, starts again in 5 ms" is down.
const STATUS_WORDS = [
  ["paused", /paus|stands still|froz|freez/i],
  ["down", /stop|kill|power|end|crash|panic|remov|wipe/i],
  ["up", /begin|start|goes on|resum/i],
];

function statusAfter(text) {
  let status = "";
  let first = Infinity;
  for (const [name, pattern] of STATUS_WORDS) {
    const found = text.search(pattern);
    if (found >= 0 && found < first) [status, first] = [name, found];
  }
  return status;
}

// The first position in a list of places whose event is at this time or later.
function firstFrom(places, at) {
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (times[places[middle]] < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The member's segment at a time.
function segmentAt(member, at) {
  return member.segments.find((segment) => segment.from <= at && at < segment.to);
}

// The member's last progress at a time.
function progressAt(member, at) {
  const next = firstFrom(member.progress, at + 1);
  return next > 0 ? events[member.progress[next - 1]] : null;
}

gather();
const whole = wholeSpan();
