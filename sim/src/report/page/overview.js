// The whole run in one strip: how much happened when, who led, when there were faults, where the search
// found something, the violations, and the part that is in view.

const overview = layer("overview");
const OVERVIEW_HEIGHT = 34;

function overviewX(at) {
  return GUTTER + ((at - whole.from) / (whole.to - whole.from)) * plotWidth();
}

function overviewTime(x) {
  return whole.from + ((x - GUTTER) / plotWidth()) * (whole.to - whole.from);
}

// The counts change only with the filter and the width.
let density = { width: 0, of: null, counts: [], most: 1 };

function densityOf(width) {
  if (density.width === width && density.of === listed) return density;
  const counts = new Uint32Array(width + 1);
  const scale = width / (whole.to - whole.from);
  for (const place of listed) counts[Math.floor((events[place].at - whole.from) * scale)] += 1;
  density = { width, of: listed, counts, most: counts.reduce((most, some) => Math.max(most, some), 1) };
  return density;
}

function drawOverview() {
  const { context } = overview;
  fit(overview, view.width, OVERVIEW_HEIGHT);
  context.fillStyle = ink.faint;
  label(context, "whole run", 8, OVERVIEW_HEIGHT / 2, GUTTER - 16, SMALL);
  const { counts, most } = densityOf(Math.floor(plotWidth()));
  const ground = OVERVIEW_HEIGHT - 9;
  context.fillStyle = ink.heartbeat;
  counts.forEach((some, x) => {
    const height = Math.sqrt(some / most) * (ground - 4);
    if (some > 0) context.fillRect(GUTTER + x, ground - height, 1, height);
  });
  context.fillStyle = ink.leader;
  for (const member of shownMembers()) {
    for (const segment of member.segments) {
      if (segment.role !== "leader" || segment.status !== "up") continue;
      const left = overviewX(segment.from);
      context.fillRect(left, ground + 1, Math.max(1, overviewX(Math.min(segment.to, whole.to)) - left - 1), 3);
    }
  }
  context.fillStyle = ink.fault;
  for (const place of faults) {
    const fault = events[place];
    if (!shows(fault)) continue;
    const left = overviewX(fault.at);
    context.fillRect(left, ground + 5, Math.max(2, overviewX(Math.max(fault.until, fault.at)) - left), 3);
  }
  context.fillStyle = ink.accent;
  for (const place of search.matches) context.fillRect(overviewX(events[place].at), 0, 1, 6);
  context.fillStyle = ink.violation;
  for (const place of violations) {
    const violation = events[place];
    context.fillRect(overviewX(contradictedAt(violation, factsOf(violation))) - 1, 0, 2, OVERVIEW_HEIGHT);
  }
  drawWindow(context);
}

function drawWindow(context) {
  const [left, right] = [overviewX(view.from), overviewX(view.to)];
  context.fillStyle = ink.ground;
  context.globalAlpha = 0.6;
  context.fillRect(GUTTER, 0, left - GUTTER, OVERVIEW_HEIGHT);
  context.fillRect(right, 0, view.width - right, OVERVIEW_HEIGHT);
  context.globalAlpha = 1;
  context.strokeStyle = ink.accent;
  context.lineWidth = 1.5;
  context.strokeRect(left, 1, Math.max(right - left, 3), OVERVIEW_HEIGHT - 2);
}
