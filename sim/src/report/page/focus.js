// The layer above the lanes: names of the lanes with what their members are at the pointer's time, the
// violated claim with its facts, what is selected and what has to do with it, and the pointer's time.

const focus = layer("focus");
let drawnAbove = {};

function tallyAbove(name) {
  drawnAbove[name] = (drawnAbove[name] ?? 0) + 1;
}

function drawFocus() {
  const { context } = focus;
  fit(focus, view.width, view.height);
  drawnAbove = {};
  context.save();
  context.beginPath();
  context.rect(GUTTER, 0, plotWidth(), view.height);
  context.clip();
  drawViolations(context);
  drawLinks(context);
  drawCursor(context);
  context.restore();
  drawNames(context);
}

function drawNames(context) {
  context.fillStyle = ink.ground;
  context.fillRect(0, AXIS, GUTTER - 1, view.height);
  context.fillStyle = ink.line;
  context.fillRect(GUTTER - 1, 0, 1, view.height);
  context.save();
  context.beginPath();
  context.rect(0, AXIS, GUTTER - 1, view.height - AXIS);
  context.clip();
  const selected = state.selected >= 0 ? events[state.selected].at : view.to;
  const at = state.cursor ?? (inView(selected) ? selected : view.to);
  for (const lane of layout.lanes) {
    if (lane.top + lane.height < AXIS || lane.top > view.height) continue;
    if (lane.kind === "member") drawMemberName(context, lane, at);
    else drawName(context, lane);
  }
  context.restore();
  drawScroll(context);
  if (drawn.aggregated > 0) {
    context.fillStyle = ink.faint;
    label(context, "zoom in: all arrows", 8, AXIS / 2, GUTTER - 12, SMALL);
  }
}

// How far the lanes are scrolled, when they do not fit.
function drawScroll(context) {
  const room = view.height - AXIS;
  if (layout.height <= room + 1) return;
  const length = (room * room) / layout.height;
  const top = AXIS + (view.top / layout.height) * room;
  context.fillStyle = ink.faint;
  context.fillRect(GUTTER - 5, top, 4, length);
}

function drawName(context, lane) {
  const named = lane.kind === "client" || lane.kind === "stream";
  const middle = lane.kind === "faults" ? lane.top + FAULT_HEIGHT / 2 : lane.top + lane.height / 2;
  context.fillStyle = named ? ink.text : ink.faint;
  label(context, lane.label, 8, middle, GUTTER - 16, named ? BOLD : SMALL);
  if (lane.detail) {
    context.fillStyle = ink.faint;
    label(context, lane.detail, 46, middle, GUTTER - 52, SMALL);
  }
}

function drawMemberName(context, lane, at) {
  const segment = segmentAt(lane.member, at);
  const progress = progressAt(lane.member, at);
  const rest = lane.steps.height + lane.disk.height;
  const middle = lane.role.top + lane.role.height / 2;
  context.fillStyle = ink.text;
  label(context, lane.label, 8, middle, 34, BOLD);
  context.fillStyle = ink.faint;
  if (segment) {
    const role = segment.role === "" ? "" : `${segment.role} ${segment.term}`;
    const text = segment.status === "up" ? role : segment.status;
    label(context, text, 42, middle, GUTTER - 48, SMALL);
  }
  if (progress && rest > 24) {
    const step = Math.min(13, rest / 2.6);
    const y = lane.role.top + lane.role.height + step * 0.8;
    label(context, `commit ${progress.commit}`, 8, y, GUTTER - 14, SMALL);
    label(context, `applied ${progress.applied}`, 8, y + step, GUTTER - 14, SMALL);
    if (rest > 34) label(context, `revision ${progress.revision}`, 8, y + step * 2, GUTTER - 14, SMALL);
  }
}

function drawViolations(context) {
  for (const place of violations) {
    const violation = events[place];
    const at = contradictedAt(violation, factsOf(violation));
    if (violation.at > at && inView(violation.at)) drawRedLine(context, violation.at, "found here", false);
    if (place !== violations[state.violation] && inView(at)) drawRedLine(context, at, violation.claim, false);
  }
  if (violations.length === 0) return;
  const current = events[violations[state.violation]];
  const facts = factsOf(current);
  drawFacts(context, facts, state.selected === current.place);
  const at = contradictedAt(current, facts);
  if (inView(at)) drawRedLine(context, at, `violated: ${current.claim}`, true);
}

function drawRedLine(context, at, text, strong) {
  const x = Math.round(toX(at));
  context.fillStyle = ink.violation;
  context.fillRect(x - (strong ? 1 : 0), AXIS - 2, strong ? 2 : 1, view.height);
  context.font = BOLD;
  const width = context.measureText(text).width + 12;
  const left = Math.max(GUTTER, Math.min(x, view.width - width));
  context.fillRect(left, 2, width, AXIS - 4);
  context.fillStyle = ink.ground;
  label(context, text, left + 6, AXIS / 2, width, BOLD);
  tallyAbove("violations");
}

// The facts stand out from all other operations: those are veiled, these framed, named and quoted.
function drawFacts(context, facts, veil) {
  if (facts.length === 0) return;
  if (veil) {
    context.fillStyle = ink.ground;
    context.globalAlpha = 0.55;
    for (const lane of layout.lanes) {
      if (lane.kind !== "client" && lane.kind !== "stream") continue;
      context.fillRect(GUTTER, Math.max(lane.top, AXIS), plotWidth(), lane.height);
    }
    context.globalAlpha = 1;
  }
  const spots = facts.map((fact) => factBox(fact));
  const taken = spots.filter(Boolean).map((spot) => ({ ...spot }));
  facts.forEach((fact, position) => {
    const spot = spots[position];
    if (!spot) return;
    if (fact.operation) drawOperation(context, fact.operation, spot);
    context.strokeStyle = ink.violation;
    context.lineWidth = 2;
    const left = Math.max(spot.left, GUTTER - 6) - 1.5;
    const right = Math.min(spot.right, view.width + 6) + 1.5;
    context.strokeRect(left, spot.top - 1.5, right - left, spot.bottom - spot.top + 3);
    tallyAbove("facts");
  });
  if (facts.length === 2 && spots[0] && spots[1]) drawGap(context, facts, spots);
  facts.slice(0, 6).forEach((fact, position) => {
    // The second of two goes below its bar, the first above: so the way from one to the other stays free.
    const below = position > 0 && spots[0] && spots[position] && spots[position].top >= spots[0].top;
    if (spots[position]) drawCallout(context, fact, spots[position], taken, below);
  });
}

function factBox(fact) {
  if (fact.operation) return operationBox(fact.operation);
  if (fact.member) {
    const lane = layout.members.get(fact.member.number);
    return lane ? box(toX(fact.from) - 6, toX(fact.from) + 6, lane.role.top, lane.role.height) : null;
  }
  const lane = layout.streams.get(fact.stream.number);
  return lane ? box(toX(fact.from), toX(fact.to), lane.top + 2, lane.height - 4) : null;
}

// From the end of one fact to the begin of the next: that they do not overlap is what contradicts.
function drawGap(context, facts, spots) {
  if (!facts[0].ended || facts[0].to >= facts[1].from) return;
  const [fromX, x] = [spots[0].right + 1, spots[1].left - 2];
  const [fromY, y] = spots.map((spot) => (spot.top + spot.bottom) / 2);
  context.strokeStyle = context.fillStyle = ink.violation;
  context.lineWidth = 1.5;
  context.setLineDash([5, 3]);
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(x, fromY);
  context.lineTo(x, fromY < y ? spots[1].top - 6 : spots[1].bottom + 6);
  context.stroke();
  context.setLineDash([]);
  const tip = fromY < y ? spots[1].top - 2 : spots[1].bottom + 2;
  const back = fromY < y ? -6 : 6;
  context.beginPath();
  context.moveTo(x, tip);
  context.lineTo(x - 3, tip + back);
  context.lineTo(x + 3, tip + back);
  context.fill();
}

function quoteOf(fact) {
  if (fact.member) return stateOf(fact.member.number, fact.from);
  if (fact.word !== undefined) return words(events[fact.word]);
  if (fact.stream) return `watch w${fact.stream.number} of c${fact.stream.client}`;
  const { operation } = fact;
  const result = operation.outcome === "open" ? "no answer" : operation.result || operation.outcome;
  const where = operation.revision > 0 ? `, revision ${operation.revision}` : "";
  return `${operation.text} → ${result}${where}`;
}

// A label with a fact's letter and words, near its bar where nothing else of the kind is. Of a fact that is
// out of view, the letter points to where it is.
function drawCallout(context, fact, spot, taken, below) {
  if (spot.right < GUTTER || spot.left > view.width) {
    const [text, x] = spot.left > view.width ? [`${fact.label} ▶`, view.width - 32] : [`◀ ${fact.label}`, GUTTER + 2];
    context.fillStyle = ink.violation;
    context.fillRect(x, spot.top, 30, spot.bottom - spot.top);
    context.fillStyle = ink.ground;
    label(context, text, x + 3, (spot.top + spot.bottom) / 2, 28, BOLD);
    return;
  }
  context.font = BOLD;
  const most = Math.min(420, plotWidth() - 20);
  const text = visible(quoteOf(fact));
  const width = Math.min(context.measureText(text).width + 34, most);
  const height = 20;
  const left = Math.max(GUTTER + 4, Math.min(spot.left - 10, view.width - width - 6));
  const tops = [spot.top - height - 5, spot.bottom + 5, spot.top - 2 * height - 8, spot.bottom + height + 8];
  if (below) tops.unshift(spot.bottom + 5);
  const free = (top) => taken.every((other) =>
    left > other.right || left + width < other.left || top > other.bottom || top + height < other.top);
  const top = tops.find((one) => one > AXIS && one + height < view.height && free(one)) ?? tops[0];
  taken.push({ left, right: left + width, top, bottom: top + height });
  context.fillStyle = ink.ground;
  context.strokeStyle = ink.violation;
  context.lineWidth = 1;
  context.beginPath();
  context.roundRect(left, top, width, height, 4);
  context.fill();
  context.stroke();
  context.fillStyle = ink.violation;
  context.beginPath();
  context.roundRect(left, top, 20, height, [4, 0, 0, 4]);
  context.fill();
  context.fillStyle = ink.ground;
  label(context, fact.label, left + 6, top + height / 2 + 0.5, 14, BOLD);
  context.fillStyle = ink.text;
  label(context, text, left + 26, top + height / 2 + 0.5, width - 30, BOLD);
}

// What is selected, in full colour, and what has to do with it, thinner.
function drawLinks(context) {
  if (state.selected < 0) return;
  const selected = events[state.selected];
  if (inView(selected.at) && selected.kind !== "violation") {
    context.fillStyle = ink.accent;
    context.globalAlpha = 0.5;
    context.fillRect(toX(selected.at) - 0.5, AXIS, 1, view.height);
    context.globalAlpha = 1;
  }
  if (selected.kind !== "violation") {
    for (const { place } of state.related) outline(context, place, 1.5);
  }
  outline(context, state.selected, 2.5);
}

function outline(context, place, width) {
  const spot = spotOf(place);
  if (!spot) return;
  context.strokeStyle = context.fillStyle = ink.accent;
  context.lineWidth = width;
  if (spot.wire) {
    context.lineWidth = width + 0.5;
    context.beginPath();
    context.moveTo(spot.wire.fromX, spot.wire.fromY);
    context.lineTo(spot.wire.toX, spot.wire.toY);
    context.stroke();
  } else {
    const left = Math.max(spot.left, GUTTER - 6) - 1.5;
    const right = Math.min(spot.right, view.width + 6) + 1.5;
    if (right > left) context.strokeRect(left, spot.top - 1.5, right - left, spot.bottom - spot.top + 3);
  }
  tallyAbove("outlines");
}

function drawCursor(context) {
  if (state.cursor === null || !inView(state.cursor)) return;
  const x = toX(state.cursor);
  context.fillStyle = ink.faint;
  context.globalAlpha = 0.5;
  context.fillRect(Math.round(x), AXIS, 1, view.height);
  context.globalAlpha = 1;
  const text = `${seconds(state.cursor, 6)} s`;
  context.font = SMALL;
  const width = context.measureText(text).width + 10;
  const left = Math.min(Math.max(x - width / 2, GUTTER), view.width - width);
  context.fillStyle = ink.faint;
  context.fillRect(left, AXIS - 17, width, 16);
  context.fillStyle = ink.ground;
  label(context, text, left + 5, AXIS - 8.5, width, SMALL);
}
