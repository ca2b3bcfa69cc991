// What belongs together: the facts of a violated claim, and the events that have to do with one event.

const MOST_LINKS = 80;

// Operations by the log index and by the revision that they ended at, words of watches by revision,
// messages by the index that they carry: made at the first question.
let linkTables = null;

function tables() {
  if (linkTables) return linkTables;
  const byIndex = new Map();
  const byRevision = new Map();
  const messagesByIndex = new Map();
  const add = (map, key, place) => {
    if (!(key > 0)) return;
    if (map.has(key)) map.get(key).push(place);
    else map.set(key, [place]);
  };
  for (const event of events) {
    if (event.kind === "return") {
      add(byIndex, event.index, event.place);
      add(byRevision, event.revision, event.place);
    } else if (event.kind === "watch" && event.heard) {
      add(byRevision, event.revision, event.place);
    } else if (event.kind === "snapshot" || (event.kind === "message" && messageClass(event) === "append")) {
      add(messagesByIndex, event.index, event.place);
    }
  }
  linkTables = { byIndex, byRevision, messagesByIndex };
  return linkTables;
}

// The class of a message, for its colour and its links.
function messageClass(event) {
  if (event.kind === "snapshot") return "snapshot";
  const name = event.message;
  if (/heartbeat/i.test(name)) return "heartbeat";
  if (/vote/i.test(name)) return "vote";
  if (/append/i.test(name)) return "append";
  if (/snap/i.test(name)) return "snapshot";
  if (/read/i.test(name)) return "read";
  return "other";
}

// The facts that contradict each other: operations, or streams when the claim is about watches, in the
// order in which they began. Each is { label, from, to, place, operation | stream }.
function factsOf(violation) {
  const aboutWatches = /^watch/.test(violation.claim);
  const facts = violation.operations.map((number) => {
    const operation = operations.get(number);
    const stream = streams.get(number);
    if (stream && (aboutWatches || !operation)) return streamFact(stream);
    return operation ? operationFact(operation) : null;
  });
  const known = facts.filter((fact) => fact !== null).sort((one, other) => one.from - other.from);
  known.forEach((fact, position) => { fact.label = position < 26 ? String.fromCharCode(65 + position) : "·"; });
  return known;
}

function operationFact(operation) {
  const to = operation.returned ?? whole.to;
  return { operation, from: operation.called, to, ended: operation.returned !== null, place: operation.call };
}

function streamFact(stream) {
  const [first, last] = [events[stream.words[0]], events[stream.words[stream.words.length - 1]]];
  return { stream, from: first.at, to: last.at, ended: true, place: first.place };
}

// The moment from which the facts contradict each other: when the last of them became known.
function contradictedAt(violation, facts) {
  const ends = facts.filter((fact) => fact.operation && fact.ended).map((fact) => fact.to);
  return ends.length > 0 ? Math.min(Math.max(...ends), violation.at) : violation.at;
}

// How two facts lie in time, in words.
function relation(one, other) {
  if (one.ended && one.to < other.from) {
    return `${one.label} had ended ${duration(other.from - one.to)} before ${other.label} began`;
  }
  return `${one.label} and ${other.label} overlap`;
}

// The events that have to do with one: [{ place, why }], without itself, in order of time.
function related(place) {
  const event = events[place];
  const found = new Map();
  const add = (other, why) => {
    if (other >= 0 && other !== place && !found.has(other) && found.size < MOST_LINKS) found.set(other, why);
  };
  const link = LINKS[event.kind];
  if (link) link(event, add);
  const list = [...found].map(([other, why]) => ({ place: other, why }));
  return list.sort((one, other) => one.place - other.place);
}

const LINKS = {
  call: (event, add) => linkOperation(operations.get(event.operation), add),
  return: (event, add) => linkOperation(operations.get(event.operation), add),
  watch(event, add) {
    linkRevision(event.revision, add);
  },
  progress(event, add) {
    const before = progressAt(members.get(event.member), event.at - 1);
    const first = before ? before.applied + 1 : event.applied;
    for (let index = Math.max(first, event.applied - MOST_LINKS); index <= event.applied; index++) {
      for (const other of tables().byIndex.get(index) ?? []) add(other, `applied as ${index}`);
    }
  },
  message(event, add) {
    const kind = messageClass(event);
    if (kind === "append" || kind === "snapshot") {
      for (const other of tables().messagesByIndex.get(event.index) ?? []) add(other, `index ${event.index}`);
      for (const other of tables().byIndex.get(event.index) ?? []) add(other, `index ${event.index}`);
    } else if (kind === "vote") {
      for (const other of messages) {
        const message = events[other];
        const same = message.kind === "message" && message.term === event.term && messageClass(message) === "vote";
        if (same) add(other, `term ${event.term}`);
      }
      linkTerm(event.term, add);
    }
  },
  snapshot: (event, add) => LINKS.message(event, add),
  role: (event, add) => linkTerm(event.term, add),
  fault(event, add) {
    for (const other of faults) if (events[other].fault === event.fault) add(other, `fault ${event.fault}`);
    for (const member of members.values()) {
      if (event.member > 0 && member.number !== event.member) continue;
      for (const other of member.life) if (Math.abs(events[other].at - event.at) < 1e6) add(other, "what it did");
    }
  },
  violation(event, add) {
    for (const fact of factsOf(event)) {
      add(fact.place, `fact ${fact.label}`);
      if (fact.operation) add(fact.operation.answer, `fact ${fact.label}`);
    }
  },
};

function linkTerm(term, add) {
  for (const member of members.values()) {
    for (const segment of member.segments) {
      const event = segment.place >= 0 ? events[segment.place] : null;
      if (event && event.kind === "role" && event.term === term) add(event.place, `term ${term}`);
    }
  }
}

function linkRevision(revision, add) {
  for (const other of tables().byRevision.get(revision) ?? []) add(other, `revision ${revision}`);
}

// An operation is carried by appends, applied by each member, and seen by watches.
function linkOperation(operation, add) {
  add(operation.call, "its call");
  add(operation.answer, "its return");
  const { index } = operation;
  if (index > 0) {
    for (const member of members.values()) {
      const { progress } = member;
      const from = firstFrom(progress, operation.called);
      const commits = progress.slice(from).find((place) => events[place].commit >= index);
      const applies = progress.slice(from).find((place) => events[place].applied >= index);
      if (applies !== undefined) add(applies, `applied ${index}`);
      if (commits !== undefined) add(commits, `commits ${index}`);
    }
    for (const place of tables().messagesByIndex.get(index) ?? []) {
      if (events[place].at >= operation.called) add(place, `carries ${index}`);
    }
  }
  linkRevision(operation.revision, add);
}
