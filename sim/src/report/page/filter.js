// What is shown. A filter holds for the lanes, for the log beside them and for the search alike.

// The switches in the tool line, each for some kinds of event. Phases and violations cannot be hidden.
const GROUPS = [
  ["Operations", ["call", "return"]],
  ["Messages", ["message", "snapshot"]],
  ["Connections", ["connection"]],
  ["Roles", ["role", "life"]],
  ["Progress", ["progress"]],
  ["Disk", ["disk"]],
  ["Watches", ["watch"]],
  ["Faults", ["fault"]],
  ["Markers", ["marker"]],
];

// Names that are hidden. Messages are hidden by their name and by their fate, disk events by their
// action, a client with all of its operations and streams.
const hidden = {
  kinds: new Set(),
  messages: new Set(),
  fates: new Set(),
  actions: new Set(),
  members: new Set(),
  clients: new Set(),
};

function shows(event) {
  if (hidden.kinds.has(event.kind)) return false;
  switch (event.kind) {
    case "message":
      if (hidden.messages.has(event.message) || hidden.fates.has(event.fate)) return false;
      return !hidden.members.has(event.member) || !hidden.members.has(event.to);
    case "disk":
      return !hidden.actions.has(event.action) && !hidden.members.has(event.member);
    case "call":
    case "return":
    case "watch":
      return !hidden.clients.has(event.client);
    default:
      return !hidden.members.has(event.member);
  }
}

// Places of the events that are shown: the rows of the log. Of them, what there is most of, apart:
// messages with snapshots, and each member's disk, of which what went wrong is apart once more.
let listed = new Uint32Array(0);
let listedMessages = [];
let listedDisk = new Map();

function applyFilter() {
  const shown = events.filter(shows);
  listed = Uint32Array.from(shown, (event) => event.place);
  listedMessages = [];
  listedDisk = new Map([...members.keys()].map((number) => [number, { usual: [], wrong: [] }]));
  for (const event of shown) {
    if (event.kind === "message" || event.kind === "snapshot") listedMessages.push(event.place);
    if (event.kind === "disk") {
      listedDisk.get(event.member)[WENT_WRONG.has(event.action) ? "wrong" : "usual"].push(event.place);
    }
  }
}

const WENT_WRONG = new Set(["failed", "damaged", "cut"]);

// The position in `listed` of the first event at this place or behind it.
function rowOf(place) {
  let low = 0;
  let high = listed.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (listed[middle] < place) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The search: events whose line holds the text, among those that are shown.
const search = { text: "", matches: new Uint32Array(0), set: new Set() };
let searchLines = null;

function applySearch(text) {
  search.text = text.trim().toLowerCase();
  if (search.text === "") {
    search.matches = new Uint32Array(0);
  } else {
    searchLines ??= events.map((event) => `${event.number} ${line(event).replace(/ +/g, " ")}`.toLowerCase());
    search.matches = listed.filter((place) => searchLines[place].includes(search.text));
  }
  search.set = new Set(search.matches);
}

// What "jump to the next" can look for.
const JUMPS = [
  ["violation", (event) => event.kind === "violation"],
  ["fault", (event) => event.kind === "fault"],
  ["new leader", (event) => event.kind === "role" && event.role === "leader"],
  ["start, stop or pause", (event) => event.kind === "life"],
  ["lost message", (event) => event.kind === "message" && event.fate === "lost"],
  ["snapshot", (event) => event.kind === "snapshot"],
  ["disk cut or damage", (event) => event.kind === "disk" && /cut|damaged|failed/.test(event.action)],
  ["unknown outcome", (event) => event.kind === "return" && event.outcome === "unknown"],
  ["failed operation", (event) => event.kind === "return" && event.outcome === "failed"],
  ["marker", (event) => event.kind === "marker"],
  ["phase", (event) => event.kind === "phase"],
];

// The next event in a direction that a test holds for and that is shown; none is -1. It goes round.
function nextEvent(from, step, test) {
  for (let walked = 1; walked <= events.length; walked++) {
    const place = (from + step * walked + events.length * 2) % events.length;
    if (test(events[place]) && shows(events[place])) return place;
  }
  return -1;
}
