// The head of the page with the verdict, the panel with all about one event, and the tip at the pointer.
// Every text goes into the document as text: none of them is ever read as markup.

function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function button(className, action, ...children) {
  const made = element("button", className, ...children);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

function showVerdict() {
  const place = document.getElementById("verdict");
  place.className = run.passed ? "passed" : "failed";
  const badge = element("span", "badge", run.passed ? "✓ passed" : "✕ failed");
  const head = element("div", "claim", badge);
  if (run.claim !== null) head.append(element("b", "", visible(run.claim)));
  const told = violations.some((place) => events[place].text === run.verdict);
  if (!told) head.append(element("span", "", visible(run.verdict)));
  const left = element("div", "sentence", head);
  if (run.promise !== "") left.append(element("p", "promise", `Promised: ${visible(run.promise)}`));
  place.replaceChildren(left);
  if (violations.length > 0) {
    left.append(violationLine());
    place.append(factCards(factsOf(events[violations[state.violation]])));
  }
  place.append(headFacts());
}

// What was seen, and the way to the next violation when there are several.
function violationLine() {
  const violation = events[violations[state.violation]];
  const made = element("p", "seen", element("span", "", visible(violation.text)));
  if (violations.length > 1) {
    const next = (state.violation + 1) % violations.length;
    const text = `${state.violation + 1} of ${violations.length}, next`;
    made.append(" ", button("link", () => { lookAtViolation(next); showVerdict(); }, text));
  }
  return made;
}

function factCards(facts) {
  const cards = element("div", "facts");
  facts.slice(0, 4).forEach((fact, position) => {
    const between = position > 0 ? relation(facts[position - 1], fact) : "";
    if (between !== "") cards.append(element("div", "relation", between));
    cards.append(factCard(fact));
  });
  if (facts.length > 4) cards.append(element("div", "relation", `and ${facts.length - 4} more, in the details`));
  return cards;
}

function factCard(fact) {
  const name = element("span", "letter", fact.label);
  const quote = element("span", "quote", visible(quoteOf(fact)));
  const { operation, stream } = fact;
  let span = `${seconds(fact.from)} – open`;
  if (fact.to === fact.from) span = `${seconds(fact.from)} s`;
  else if (fact.ended) span = `${seconds(fact.from)} – ${seconds(fact.to)} s, ${duration(fact.to - fact.from)}`;
  const whose = [];
  if (operation) whose.push(`#${operation.number}`, `c${operation.client} asks ${stateOf(operation.member, fact.from)}`);
  if (stream) whose.push(`w${stream.number}`, `c${stream.client} on ${stateOf(stream.member, fact.from)}`);
  const small = element("span", "small", [...whose, span].join(" · "));
  return button("fact", () => select(fact.place), name, element("span", "lines", quote, small));
}

// What a member was at a time: "m1 (leader in term 2, applied 117)".
function stateOf(number, at) {
  if (number === 0) return "the cluster";
  const member = members.get(number);
  const segment = member && segmentAt(member, at);
  const progress = member && progressAt(member, at);
  const parts = [];
  if (segment && segment.status !== "up") parts.push(segment.status);
  if (segment && segment.role !== "") parts.push(`${segment.role} in term ${segment.term}`);
  if (progress) parts.push(`applied ${progress.applied}`);
  return parts.length > 0 ? `m${number} (${parts.join(", ")})` : `m${number}`;
}

// What was the case when the facts of a violation came about: who had applied what, who led, what was wrong.
function circumstances(violation, facts) {
  const parts = [];
  const last = facts[facts.length - 1];
  for (const fact of facts) {
    const { index = 0, revision = 0 } = fact.operation ?? {};
    if (fact === last || (index === 0 && revision === 0)) continue;
    const [field, value] = index > 0 ? ["applied", index] : ["revision", revision];
    parts.push(element("p", "", reachedWords(fact.label, field, value, last)));
  }
  const [from, to] = [facts[0].from, contradictedAt(violation, facts)];
  const leaders = [...members.values()].filter((member) => segmentAt(member, to)?.role === "leader");
  if (leaders.length > 1) {
    const names = leaders.map((member) => stateOf(member.number, to)).join(" and ");
    parts.push(element("p", "", `Each believed to lead: ${names}.`));
  }
  if (parts.length > 0) parts.unshift(element("h3", "", "Circumstances"));
  const active = faults.filter((place) => times[place] <= to && Math.max(events[place].until, times[place]) >= from);
  const before = faults.filter((place) => times[place] < from && !active.includes(place)).slice(-3);
  if (active.length > 0) parts.push(element("h3", "", "Faults at that time"), ...active.map(entryLine));
  if (before.length > 0) parts.push(element("h3", "", "Faults before"), ...before.map(entryLine));
  return parts;
}

function reachedWords(name, field, value, last) {
  const names = (list) => list.map((member) => `m${member.number}`).join(", ");
  const has = (member) => (progressAt(member, last.from)?.[field] ?? 0) >= value;
  const all = [...members.values()].sort(byNumber);
  const [applied, missing] = [all.filter(has), all.filter((member) => !has(member))];
  const askedMissing = missing.some((member) => member.number === last.operation?.member);
  const asked = askedMissing ? `, and ${last.label} asked m${last.operation.member}` : "";
  const without = missing.length > 0 ? `, not by ${names(missing)}${asked}` : "";
  const what = field === "applied" ? `index ${value} of ${name} was applied` : `revision ${value} of ${name} was reached`;
  return `When ${last.label} began, ${what} by ${names(applied) || "none"}${without}.`;
}

function headFacts() {
  const list = element("dl", "run");
  const add = (name, ...values) => list.append(element("div", "", element("dt", "", name), element("dd", "", ...values)));
  add("seed", run.seed);
  add("profile", visible(run.profile));
  add("members", String(run.members));
  add("simulated", duration(run.simulated));
  add("events", events.length.toLocaleString("en"));
  const command = element("code", "", visible(run.command));
  const copy = button("link", () => {
    // Where the clipboard is closed to a file, the command is at least marked.
    getSelection().selectAllChildren(command);
    navigator.clipboard?.writeText(run.command).then(() => { copy.textContent = "copied"; }, () => {});
  }, "copy");
  list.append(element("div", "", element("dt", "", "repeat with"), element("dd", "", command, " ", copy)));
  return list;
}

function showDetails() {
  const place = document.getElementById("details");
  place.replaceChildren(...(state.selected >= 0 ? eventDetails(state.selected) : runDetails()));
  place.scrollTop = 0;
}

function eventDetails(place) {
  const event = events[place];
  const title = element("h2", "", `${heading(event)} `,
    element("span", "small", `event ${event.number} · ${seconds(event.at, 9)} s`));
  const close = button("close", () => select(-1), "×");
  close.title = "close (Esc)";
  title.append(close);
  const text = element("p", "what", visible(words(event)));
  const parts = [title, text];
  if (event.kind === "violation") {
    const facts = factsOf(event);
    if (facts.length > 4) parts.push(...facts.map(factCard));
    if (facts.length > 0) parts.push(...circumstances(event, facts));
  } else {
    parts.push(fieldList(event));
  }
  if (state.related.length > 0 && event.kind !== "violation") {
    parts.push(element("h3", "", `Has to do with it (${state.related.length})`));
    parts.push(...state.related.map((link) => linkLine(link)));
  }
  return parts;
}

function fieldList(event) {
  const list = element("dl", "fields");
  const add = (name, value) => list.append(element("dt", "", name), element("dd", "", visible(String(value))));
  if (event.member > 0) add("member", `m${event.member}`);
  const operation = operations.get(event.operation);
  if (operation && (event.kind === "call" || event.kind === "return")) {
    add("asks", operation.text);
    add("hears", operation.result === "" ? operation.outcome : `${operation.outcome}: ${operation.result}`);
    const took = operation.returned === null ? "" : `, ${duration(operation.returned - operation.called)}`;
    const end = operation.returned === null ? "open" : seconds(operation.returned);
    add("from, to", `${seconds(operation.called)} – ${end}${took}`);
    add("revision", operation.revision);
    add("log index", operation.index);
    return list;
  }
  for (const [name, value] of Object.entries(event)) {
    if (HEAD_FIELDS.has(name) || value === "") continue;
    if (name === "arrives" || name === "until") {
      if (value > 0) add(name, `${seconds(value, 9)} s, after ${duration(value - event.at)}`);
    } else {
      add(name, value);
    }
  }
  return list;
}

function linkLine({ place, why }) {
  const event = events[place];
  const offset = state.selected >= 0 ? event.at - events[state.selected].at : 0;
  const when = `${offset < 0 ? "−" : "+"}${duration(Math.abs(offset))}`;
  return button("entry", () => select(place),
    element("span", "when", when), element("span", "who", who(event)),
    element("span", "words", visible(words(event))), element("span", "why", why));
}

// With nothing selected: what the run was made of.
function runDetails() {
  const parts = [element("h2", "", "The run")];
  const outcomes = new Map();
  for (const operation of operations.values()) {
    outcomes.set(operation.outcome, (outcomes.get(operation.outcome) ?? 0) + 1);
  }
  const list = element("dl", "fields");
  const add = (name, value) => list.append(element("dt", "", name), element("dd", "", value));
  add("operations", [...outcomes].sort().map(([name, some]) => `${some} ${name}`).join(", ") || "none");
  add("leaders", leaderWords());
  const lost = messages.filter((place) => events[place].fate === "lost").length;
  add("messages", `${messages.length.toLocaleString("en")}, ${lost.toLocaleString("en")} lost`);
  parts.push(list);
  if (faults.length > 0) {
    parts.push(element("h3", "", `Faults (${faults.length})`));
    for (const place of faults.slice(0, 60)) parts.push(entryLine(place));
  }
  const reached = Object.entries(run.markers);
  if (reached.length > 0) {
    parts.push(element("h3", "", "Rare paths reached"));
    const table = element("dl", "fields");
    for (const [name, times] of reached) table.append(element("dt", "", visible(name)), element("dd", "", `${times} ×`));
    parts.push(table);
  }
  return parts;
}

function leaderWords() {
  const led = [];
  for (const member of members.values()) {
    for (const segment of member.segments) {
      const begins = segment.role === "leader" && events[segment.place].kind === "role";
      if (begins) led.push([segment.from, member.number, segment.term]);
    }
  }
  led.sort((one, other) => one[0] - other[0]);
  const shown = led.slice(0, 12).map(([, number, term]) => `m${number} (term ${term})`).join(", ");
  return led.length > 12 ? `${shown} and ${led.length - 12} more` : shown || "none";
}

function entryLine(place) {
  const event = events[place];
  return button("entry", () => select(place),
    element("span", "when", seconds(event.at, 3)), element("span", "who", who(event)),
    element("span", "words", visible(words(event))));
}

const tip = document.getElementById("tip");

function showTip(place, x, y) {
  if (place < 0) {
    tip.hidden = true;
    return;
  }
  const event = events[place];
  const operation = operations.get(event.operation);
  const text = operation && event.kind === "call" ? operationWords(operation) : words(event);
  tip.replaceChildren(element("b", "", `${who(event)} ${heading(event)} `),
    element("span", "small", `${seconds(event.at)} s`), element("div", "", visible(text)));
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  tip.style.left = `${Math.max(4, Math.min(x + 14, window.innerWidth - width - 8))}px`;
  tip.style.top = `${y + height + 20 > window.innerHeight ? y - height - 10 : y + 16}px`;
}

function operationWords(operation) {
  const result = operation.outcome === "open" ? "open" : `${operation.outcome}: ${operation.result}`;
  const took = operation.returned === null ? "" : `, ${duration(operation.returned - operation.called)}`;
  const where = operation.revision > 0 ? ` (revision ${operation.revision}, index ${operation.index})` : "";
  return `#${operation.number} c${operation.client}: ${operation.text} → ${result}${where}${took}`;
}
