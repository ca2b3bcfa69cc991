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

// The class of a message, for its colour and its links. There are many messages, but few names.
const classes = new Map();

function messageClass(event) {
  if (event.kind === "snapshot") return "snapshot";
  if (!classes.has(event.message)) classes.set(event.message, classOf(event.message));
  return classes.get(event.message);
}

function classOf(name) {
  if (/heartbeat/i.test(name)) return "heartbeat";
  if (/vote/i.test(name)) return "vote";
  if (/append/i.test(name)) return "append";
  if (/snap/i.test(name)) return "snapshot";
  if (/read/i.test(name)) return "read";
  return "other";
}

// The facts that contradict each other, in the order in which they began: the operations that a violation
// names by number, and the operations and words of watch streams that its text names; if there are none,
// what the members were that it names. Each is { label, from, to, ended, place } with `operation`, `stream`
// (and `word`, the place of one word on it), or `member`.
const knownFacts = new Map();

function factsOf(violation) {
  if (!knownFacts.has(violation.place)) knownFacts.set(violation.place, findFacts(violation));
  return knownFacts.get(violation.place);
}

function findFacts(violation) {
  const found = new Map();
  const add = (key, fact) => { if (fact && !found.has(key)) found.set(key, fact); };
  const { text } = violation;
  const named = [...text.matchAll(/\boperation (\d+)\b/g)].map((match) => Number(match[1]));
  for (const number of [...violation.operations, ...named]) {
    const operation = operations.get(number);
    add(`operation ${number}`, operation && operationFact(operation));
  }
  for (const [, number, at] of text.matchAll(/\bstream (\d+) on m\d+(?: (?:heard )?at (\d+) ns)?/g)) {
    const stream = streams.get(Number(number));
    add(`stream ${number} ${at}`, stream && streamFact(stream, Number(at)));
  }
  if (found.size === 0) {
    for (const [, number] of text.matchAll(/\bm(\d+)\b/g)) {
      const member = members.get(Number(number));
      add(`member ${number}`, member && memberFact(member, violation));
    }
  }
  const facts = [...found.values()].sort((one, other) => one.from - other.from);
  facts.forEach((fact, position) => { fact.label = position < 26 ? String.fromCharCode(65 + position) : "·"; });
  return facts;
}

function operationFact(operation) {
  const to = operation.returned ?? whole.to;
  return { operation, from: operation.called, to, ended: operation.returned !== null, place: operation.call };
}

// A stream, or the word that was said on it at a time.
function streamFact(stream, at) {
  const word = stream.words.find((place) => times[place] === at);
  if (word !== undefined) return { stream, word, from: at, to: at, ended: true, place: word };
  const [first, last] = [stream.words[0], stream.words[stream.words.length - 1]];
  return { stream, from: times[first], to: times[last], ended: true, place: first };
}

function memberFact(member, { at, place }) {
  const segment = segmentAt(member, at);
  return { member, from: at, to: at, ended: true, place: segment && segment.place >= 0 ? segment.place : place };
}

// The moment from which the facts contradict each other: when the last of them became known.
function contradictedAt(violation, facts) {
  const ends = facts.filter((fact) => fact.ended && !fact.member).map((fact) => fact.to);
  return ends.length > 0 ? Math.min(Math.max(...ends), violation.at) : violation.at;
}

// How two facts lie in time, in words.
function relation(one, other) {
  if (one.member || other.member) return "";
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
    if (event.revision > (before ? before.revision : 0)) linkRevision(event.revision, add);
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

// An operation is carried by appends, applied by each member, and seen by watches. Where its log index is
// not known, members are asked for its revision.
function linkOperation(operation, add) {
  add(operation.call, "its call");
  add(operation.answer, "its return");
  const { index, revision } = operation;
  for (const member of members.values()) {
    const { progress } = member;
    const later = progress.slice(firstFrom(progress, operation.called));
    const reaches = (field, value) => later.find((place) => events[place][field] >= value) ?? -1;
    if (index > 0) {
      add(reaches("applied", index), `applied ${index}`);
      add(reaches("commit", index), `commits ${index}`);
    } else if (revision > 0) {
      add(reaches("revision", revision), `revision ${revision}`);
    }
  }
  for (const place of tables().messagesByIndex.get(index) ?? []) {
    if (times[place] >= operation.called) add(place, `carries ${index}`);
  }
  linkRevision(revision, add);
}
