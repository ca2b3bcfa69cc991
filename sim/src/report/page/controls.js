// Pointer, wheel, keyboard, and the tool line: filters, search, jumps.

const stage = document.getElementById("stage");

// The event under a point of the lanes: boxes first, the last drawn on top, then the nearest arrow.
function eventAt(x, y) {
  if (x < GUTTER || y < AXIS) return -1;
  let nearest = -1;
  let least = 5;
  for (let position = hits.length - 1; position >= 0; position--) {
    const one = hits[position];
    if (one.line) {
      const away = distance(x, y, one.line);
      if (away < least) [least, nearest] = [away, one.place];
    } else if (x >= one.left - 1 && x <= one.right + 1 && y >= one.top && y <= one.bottom) {
      return one.place;
    }
  }
  return nearest;
}

function distance(x, y, { fromX, fromY, toX: endX, toY: endY }) {
  const [dx, dy] = [endX - fromX, endY - fromY];
  const length = dx * dx + dy * dy || 1;
  const share = Math.max(0, Math.min(1, ((x - fromX) * dx + (y - fromY) * dy) / length));
  return Math.hypot(x - fromX - share * dx, y - fromY - share * dy);
}

function pointIn(event) {
  const edge = stage.getBoundingClientRect();
  return [event.clientX - edge.left, event.clientY - edge.top];
}

// A drag moves the view; with the shift key it chooses a span; a press without a move selects.
let drag = null;

stage.addEventListener("pointerdown", (event) => {
  const [x, y] = pointIn(event);
  drag = { x, y, from: view.from, to: view.to, top: view.top, moved: false, chooses: event.shiftKey };
});

stage.addEventListener("pointermove", (event) => {
  if (drag) return;
  const [x, y] = pointIn(event);
  state.cursor = x >= GUTTER ? toTime(x) : null;
  const place = eventAt(x, y);
  state.hovered = place;
  stage.style.cursor = place >= 0 ? "pointer" : "grab";
  showTip(place, event.clientX, event.clientY);
  redrawFocus();
});

// A drag goes on outside of the lanes.
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = pointIn(event);
  if (Math.hypot(x - drag.x, y - drag.y) > 3) drag.moved = true;
  if (!drag.moved) return;
  showTip(-1);
  if (drag.chooses) {
    showChoice(Math.min(x, drag.x), Math.max(x, drag.x));
  } else {
    const by = ((drag.x - x) / plotWidth()) * (drag.to - drag.from);
    lookAt(drag.from + by, drag.to + by);
    scrollTo(drag.top + drag.y - y);
  }
});

window.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const [x, y] = pointIn(event);
  if (!drag.moved) {
    select(eventAt(x, y), "lanes");
  } else if (drag.chooses) {
    lookAt(toTime(Math.min(x, drag.x)), toTime(Math.max(x, drag.x)));
  }
  endDrag();
});

window.addEventListener("pointercancel", () => endDrag());

stage.addEventListener("pointerleave", () => {
  state.cursor = null;
  showTip(-1);
  redrawFocus();
});

function endDrag() {
  drag = null;
  document.getElementById("choice").hidden = true;
}

function showChoice(left, right) {
  const choice = document.getElementById("choice");
  choice.hidden = false;
  choice.style.left = `${left}px`;
  choice.style.width = `${right - left}px`;
}

// The wheel zooms around the pointer; over the names it scrolls, sideways it pans.
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const [x] = pointIn(event);
  const lines = event.deltaMode === 1 ? 18 : 1;
  if (x < GUTTER || event.altKey) scrollTo(view.top + event.deltaY * lines);
  else if (event.shiftKey) pan(((event.deltaY || event.deltaX) * lines) / plotWidth());
  else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX * lines) / plotWidth());
  else zoom(1.0018 ** (event.deltaY * lines), toTime(x));
}, { passive: false });

// In the overview, a press or drag moves the view there.
const strip = document.getElementById("overview");
strip.addEventListener("pointerdown", (event) => strip.setPointerCapture(event.pointerId));
for (const kind of ["pointerdown", "pointermove"]) {
  strip.addEventListener(kind, (event) => {
    if (event.buttons === 0) return;
    const middle = overviewTime(event.clientX - strip.getBoundingClientRect().left);
    const half = (view.to - view.from) / 2;
    lookAt(middle - half, middle + half);
  });
}

const KEYS = {
  ArrowLeft: () => pan(-0.15),
  ArrowRight: () => pan(0.15),
  ArrowUp: () => scrollTo(view.top - 40),
  ArrowDown: () => scrollTo(view.top + 40),
  "+": () => zoom(1 / 1.5),
  "=": () => zoom(1 / 1.5),
  "-": () => zoom(1.5),
  f: () => lookAt(whole.from, whole.to),
  v: () => { if (violations.length > 0) lookAtViolation(state.violation); },
  n: () => nextMatch(1),
  p: () => nextMatch(-1),
  j: () => step(1),
  k: () => step(-1),
  "/": () => document.getElementById("search").focus(),
  "?": () => toggleHelp(),
  Escape: () => select(-1),
};

window.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = KEYS[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});

// The next or previous event of the log.
function step(by) {
  if (listed.length === 0) return;
  const row = state.selected < 0 ? rowOfTime(view.from) : rowOf(state.selected) + by;
  select(listed[Math.max(0, Math.min(row, listed.length - 1))]);
}

function nextMatch(by) {
  const { matches } = search;
  if (matches.length === 0) return;
  const from = state.selected >= 0 ? state.selected : firstFrom(listed, view.from) - 1;
  let position = matches.findIndex((place) => place > from);
  if (position < 0) position = by > 0 ? 0 : matches.length;
  if (by < 0) position -= search.set.has(from) ? 2 : 1;
  select(matches[(position + matches.length * 2) % matches.length]);
  showMatches();
}

function showMatches() {
  const place = document.getElementById("matches");
  const { matches, text } = search;
  const at = state.selected >= 0 ? matches.indexOf(state.selected) + 1 : 0;
  const found = matches.length.toLocaleString("en");
  place.textContent = text === "" ? "" : at > 0 ? `${at.toLocaleString("en")} of ${found}` : `${found} found`;
}

function setUpSearch() {
  const field = document.getElementById("search");
  let timer = 0;
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      applySearch(field.value);
      showMatches();
      redraw();
    }, 120);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    clearTimeout(timer);
    applySearch(field.value);
    nextMatch(event.shiftKey ? -1 : 1);
    showMatches();
  });
  document.getElementById("match-back").addEventListener("click", () => nextMatch(-1));
  document.getElementById("match-next").addEventListener("click", () => nextMatch(1));
}

function setUpJumps() {
  const choice = document.getElementById("jump");
  const present = JUMPS.filter(([, test]) => events.some(test));
  present.forEach(([name]) => choice.append(element("option", "", name)));
  const jump = (by) => {
    const found = present[choice.selectedIndex];
    const from = state.selected >= 0 ? state.selected : firstFrom(listed, view.from) - 1;
    const place = found ? nextEvent(from, by, found[1]) : -1;
    if (place >= 0) select(place);
  };
  document.getElementById("jump-back").addEventListener("click", () => jump(-1));
  document.getElementById("jump-next").addEventListener("click", () => jump(1));
}

// A switch for each group of kinds, and menus for names of messages, members and clients.
function setUpFilters() {
  const kinds = document.getElementById("kinds");
  for (const [name, group] of GROUPS) {
    if (!events.some((event) => group.includes(event.kind))) continue;
    const chip = button("chip", () => {
      const off = chip.getAttribute("aria-pressed") === "true";
      for (const kind of group) hide(hidden.kinds, kind, off);
      chip.setAttribute("aria-pressed", String(!off));
      filterChanged();
    }, name);
    chip.setAttribute("aria-pressed", "true");
    kinds.append(chip);
  }
  const menu = document.getElementById("filter-menu");
  checks(menu, "Message", hidden.messages, namesOf("message", "message"), (name) => name);
  checks(menu, "What became of it", hidden.fates, namesOf("message", "fate"), (name) => name);
  checks(menu, "Disk", hidden.actions, namesOf("disk", "action"), (name) => name.replace("_", " "));
  checks(menu, "Members", hidden.members, [...members.keys()].sort(ascending), (number) => `m${number}`);
  checks(menu, "Clients", hidden.clients, [...clients.keys()].sort(ascending), (number) => `c${number}`);
}

function ascending(one, other) {
  return one - other;
}

function namesOf(kind, field) {
  return [...new Set(events.filter((event) => event.kind === kind).map((event) => event[field]))].sort();
}

function checks(menu, title, set, names, nameOf) {
  if (names.length === 0) return;
  const group = element("fieldset", "", element("legend", "", title));
  const boxes = names.map((name) => {
    const check = element("input");
    check.type = "checkbox";
    check.checked = true;
    check.addEventListener("change", () => {
      hide(set, name, !check.checked);
      filterChanged();
    });
    group.append(element("label", "", check, nameOf(name)));
    return check;
  });
  const all = (checked) => () => {
    boxes.forEach((check, position) => {
      check.checked = checked;
      hide(set, names[position], !checked);
    });
    filterChanged();
  };
  group.append(element("div", "", button("link", all(true), "all"), " ", button("link", all(false), "none")));
  menu.append(group);
}

function hide(set, name, off) {
  if (off) set.add(name);
  else set.delete(name);
}

function filterChanged() {
  applyFilter();
  sizeLog();
  applySearch(search.text);
  showMatches();
  if (state.selected >= 0) showInLog(state.selected);
  redraw();
}

function toggleHelp() {
  const help = document.getElementById("help");
  if (help.open) help.close();
  else help.showModal();
}

function setUpButtons() {
  const on = (id, action) => document.getElementById(id).addEventListener("click", action);
  on("zoom-in", () => zoom(1 / 1.8));
  on("zoom-out", () => zoom(1.8));
  on("fit", () => KEYS.f());
  on("help-button", () => toggleHelp());
  const violation = document.getElementById("to-violation");
  violation.hidden = violations.length === 0;
  violation.addEventListener("click", () => KEYS.v());
  document.getElementById("follow").addEventListener("change", (event) => {
    logFollows = event.target.checked;
    redraw();
  });
  // An open menu closes when something else is pressed.
  document.addEventListener("pointerdown", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  setUpSplitter();
}

// The border between lanes and log can be dragged.
function setUpSplitter() {
  const splitter = document.getElementById("splitter");
  splitter.addEventListener("pointerdown", (event) => splitter.setPointerCapture(event.pointerId));
  splitter.addEventListener("pointermove", (event) => {
    if (event.buttons === 0) return;
    const width = Math.max(220, Math.min(window.innerWidth - event.clientX, window.innerWidth - 480));
    document.documentElement.style.setProperty("--side", `${width}px`);
    measure();
  });
}
