// How events and times are said. An event's words are those of the run's own log, so that a search finds
// the same lines in both: the page's test compares them.

const HEADINGS = { fault: "FAULT", phase: "PHASE", violation: "VIOLATED", connection: "network" };

function heading(event) {
  return HEADINGS[event.kind] ?? event.kind;
}

const WORDS = {
  message(event) {
    const late = event.arrives > 0 ? ` after ${Math.floor(Math.max(0, event.arrives - event.at) / 1000)} us` : "";
    return `${event.message} to m${event.to}, term ${event.term}, index ${event.index}: ${event.fate}${late}`;
  },
  snapshot: (event) => `of index ${event.index} to m${event.to}: ${event.ok ? "arrived" : "failed"}`,
  connection(event) {
    const to = event.to > 0 ? `m${event.to}` : "clients";
    return `${event.change}, to ${to}: ${event.connections}`;
  },
  role(event) {
    const leader = event.leader > 0 ? `leader m${event.leader}` : "no leader";
    return `${event.role} in term ${event.term}, ${leader}`;
  },
  progress: (event) => `commit ${event.commit}, applied ${event.applied}, revision ${event.revision}`,
  disk(event) {
    return `${event.action.replace("_", " ")} ${event.file} at ${event.offset}, ${event.bytes} bytes`;
  },
  life: (event) => event.change,
  call: (event) => `c${event.client} #${event.operation}: ${event.text}`,
  return(event) {
    const place = `(revision ${event.revision}, index ${event.index})`;
    return `c${event.client} #${event.operation} ${event.outcome}: ${event.text} ${place}`;
  },
  watch(event) {
    const verb = event.heard ? "hears" : "says";
    const where = `on w${event.stream}/${event.watcher} at revision ${event.revision}`;
    return `c${event.client} ${verb} ${where}: ${event.text}`;
  },
  fault(event) {
    const until = event.until > 0 ? `, until ${Math.floor(event.until / 1e6)} ms` : "";
    return `${event.fault}: ${event.text}${until}`;
  },
  phase: (event) => event.name,
  marker: (event) => event.name,
  violation: (event) => `${event.claim}: ${event.text} [${event.operations.join(", ")}]`,
};

const HEAD_FIELDS = new Set(["place", "number", "at", "member", "kind"]);

// What happened, on one line. A kind that this page does not know is said by its fields.
function words(event) {
  const known = WORDS[event.kind];
  if (known) return known(event);
  const fields = Object.entries(event).filter(([name]) => !HEAD_FIELDS.has(name));
  return fields.map(([name, value]) => `${name} ${value}`).join(", ");
}

function who(event) {
  return event.member > 0 ? `m${event.member}` : "--";
}

// The line of an event without its time and number: what is searched.
function line(event) {
  return `${who(event).padEnd(4)} ${heading(event).padEnd(8)} ${words(event)}`;
}

// A text as it may be shown: what would change lines or the direction of writing is shown by its number.
function visible(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (letter) => {
    return letter === "\n" ? "\\n" : `\\u{${letter.charCodeAt(0).toString(16)}}`;
  });
}

// Seconds with this many decimals.
function seconds(at, decimals = 6) {
  return (at / 1e9).toFixed(decimals);
}

// A length of time with three digits and the unit that suits it.
function duration(nanoseconds) {
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  for (const [size, unit] of units) {
    if (Math.abs(nanoseconds) >= size) {
      const value = nanoseconds / size;
      return `${value >= 100 ? Math.round(value) : Number(value.toPrecision(3))} ${unit}`;
    }
  }
  return `${Math.round(nanoseconds)} ns`;
}

function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
