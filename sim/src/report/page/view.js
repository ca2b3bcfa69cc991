// What part of the run is looked at, what is selected, and how time becomes pixels.

const GUTTER = 118;
const AXIS = 22;
const SHORTEST = 1000;

const view = { from: whole.from, to: whole.to, top: 0, width: 0, height: 0 };

// The event that is selected and the one under the pointer, by place; where the pointer is, in time.
const state = { selected: -1, related: [], hovered: -1, cursor: null, violation: 0 };

function plotWidth() {
  return Math.max(1, view.width - GUTTER);
}

function toX(at) {
  return GUTTER + ((at - view.from) / (view.to - view.from)) * plotWidth();
}

function toTime(x) {
  return view.from + ((x - GUTTER) / plotWidth()) * (view.to - view.from);
}

function inView(at) {
  return at >= view.from && at <= view.to;
}

// Looks at this span, as far as there is something to see.
function lookAt(from, to) {
  const span = Math.min(Math.max(to - from, SHORTEST), whole.to - whole.from);
  const middle = (from + to) / 2;
  const start = Math.min(Math.max(middle - span / 2, whole.from), whole.to - span);
  view.from = start;
  view.to = start + span;
  viewChanged();
}

function zoom(factor, around = (view.from + view.to) / 2) {
  const span = view.to - view.from;
  if ((factor < 1 && span <= SHORTEST) || (factor > 1 && span >= whole.to - whole.from)) return;
  lookAt(around - (around - view.from) * factor, around + (view.to - around) * factor);
}

function pan(share) {
  const by = (view.to - view.from) * share;
  lookAt(view.from + by, view.to + by);
}

// Scrolls the lanes.
function scrollTo(top) {
  view.top = Math.max(0, Math.min(top, layout.height - (view.height - AXIS)));
  viewChanged();
}

// Moves the view so that an event is in it, with the zoom that there is.
function reveal(place) {
  const event = events[place];
  if (!inView(event.at)) {
    const half = (view.to - view.from) / 2;
    lookAt(event.at - half, event.at + half);
  }
  const spot = spotOf(place);
  if (spot && (spot.top < AXIS || spot.bottom > view.height)) {
    scrollTo(view.top + spot.top - view.height / 2);
  }
}

// Selects an event; nothing with -1. `from` says who asked, so that the asker stays where it is.
function select(place, from = "") {
  state.selected = place;
  state.related = place >= 0 ? related(place) : [];
  if (place >= 0) {
    const violation = violations.indexOf(place);
    if (violation >= 0) state.violation = violation;
    if (from !== "lanes") reveal(place);
    if (from !== "log") showInLog(place);
  }
  showDetails();
  viewChanged();
}

// The span around the facts of a violated claim, wide enough to see what led there.
function lookAtViolation(position) {
  const violation = events[violations[position]];
  const facts = factsOf(violation);
  state.violation = position;
  const from = Math.min(violation.at, ...facts.map((fact) => fact.from));
  const to = facts.length > 0 ? Math.max(...facts.map((fact) => fact.to)) : violation.at;
  const air = Math.max((to - from) * 0.75, 40e6);
  lookAt(from - air, Math.min(to, contradictedAt(violation, facts)) + air);
  showLanesOf(facts);
  select(violation.place, "lanes");
}

// The address of what is seen: the number of the selected event, and the span.
function address() {
  const span = `${seconds(view.from, 9)}-${seconds(view.to, 9)}`;
  return state.selected >= 0 ? `#e${events[state.selected].number}@${span}` : `#@${span}`;
}

// Goes where an address says; false when it says nothing.
function follow(fragment) {
  const match = /^#(?:e(\d+))?(?:@(-?[\d.]+)-(-?[\d.]+))?$/.exec(fragment);
  if (!match || fragment.length < 2) return false;
  const place = match[1] === undefined ? -1 : (placeOfNumber.get(Number(match[1])) ?? -1);
  if (match[1] !== undefined && place < 0) return false;
  if (match[2] !== undefined) lookAt(Number(match[2]) * 1e9, Number(match[3]) * 1e9);
  else if (place >= 0) lookAt(events[place].at - 50e6, events[place].at + 50e6);
  select(place);
  return true;
}

let addressTimer = 0;

function viewChanged() {
  redraw();
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    // Not a new page in the browser's history; and some browsers refuse it to a file.
    try {
      history.replaceState(null, "", address());
    } catch {
      return;
    }
  }, 300);
}
