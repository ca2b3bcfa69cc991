// The log beside the lanes: one line an event, of those that the filter lets through. Only the lines on
// the screen are in the document, and they are used again when it is scrolled.

const ROW_HEIGHT = 18;
const logBox = document.getElementById("log");
const logRows = document.getElementById("log-rows");
const rowPool = [];
let logFollows = true;

function makeRow() {
  const row = element("div", "row");
  for (const part of ["time", "who", "kind", "words"]) row.append(element("span", part));
  row.addEventListener("click", () => select(row.place, "log"));
  logRows.append(row);
  return row;
}

// As high as all lines together, so that it can be scrolled to any of them.
function sizeLog() {
  logRows.style.height = `${listed.length * ROW_HEIGHT}px`;
}

function drawLog() {
  const first = Math.floor(logBox.scrollTop / ROW_HEIGHT);
  const fitting = Math.ceil(logBox.clientHeight / ROW_HEIGHT) + 1;
  const shown = Math.max(0, Math.min(fitting, listed.length - first));
  while (rowPool.length < shown) rowPool.push(makeRow());
  const linked = new Set(state.related.map((link) => link.place));
  rowPool.forEach((row, position) => {
    row.hidden = position >= shown;
    if (row.hidden) return;
    const place = listed[first + position];
    fillRow(row, place, first + position);
    const event = events[place];
    row.className = ["row", event.kind,
      place === state.selected ? "selected" : "",
      linked.has(place) ? "linked" : "",
      inView(event.at) ? "" : "outside"].join(" ");
  });
  const inside = rowOfTime(view.to) - rowOfTime(view.from);
  document.getElementById("log-count").textContent =
    `${count(inside, "event")} in view, ${count(listed.length, "event")} shown`;
}

function fillRow(row, place, position) {
  row.style.top = `${position * ROW_HEIGHT}px`;
  if (row.place === place && row.search === search.text) return;
  row.place = place;
  row.search = search.text;
  const event = events[place];
  const [time, whose, kind, text] = row.children;
  time.textContent = seconds(event.at);
  whose.textContent = event.member > 0 ? who(event) : "";
  kind.textContent = heading(event);
  setMarked(text, visible(words(event)));
}

// A text in which what the search looks for is marked.
function setMarked(parent, text) {
  parent.replaceChildren();
  const wanted = search.text;
  const lower = text.toLowerCase();
  let at = 0;
  while (wanted !== "") {
    const found = lower.indexOf(wanted, at);
    if (found < 0) break;
    parent.append(text.slice(at, found), element("mark", "", text.slice(found, found + wanted.length)));
    at = found + wanted.length;
  }
  parent.append(text.slice(at));
}

// The position in `listed` of the first event at this time or later.
function rowOfTime(at) {
  return firstFrom(listed, at);
}

function showInLog(place) {
  const top = rowOf(place) * ROW_HEIGHT;
  const seen = top >= logBox.scrollTop && top + ROW_HEIGHT <= logBox.scrollTop + logBox.clientHeight;
  if (!seen) logBox.scrollTop = top - logBox.clientHeight / 3;
}

// While nothing that is selected is in view, the log goes along with it.
function followView() {
  if (!logFollows) return;
  if (state.selected >= 0 && inView(events[state.selected].at)) return;
  const first = rowOfTime(view.from);
  const top = logBox.scrollTop / ROW_HEIGHT;
  if (top < first || top > rowOfTime(view.to)) logBox.scrollTop = first * ROW_HEIGHT;
}

logBox.addEventListener("scroll", () => redraw());
