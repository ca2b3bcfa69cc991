// Looks at a page from inside: does what hands would do, and writes what came of it into the document.
// The last thing that it makes is the element `seen`: without it, something went wrong on the way.
(async () => {
  const { report } = window;
  const { view, state, events } = report;
  const stage = document.getElementById("stage");
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const key = (name, target = document.body) =>
    target.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const pointer = (kind, x, y) => {
    const edge = stage.getBoundingClientRect();
    stage.dispatchEvent(new PointerEvent(kind, {
      clientX: edge.left + x, clientY: edge.top + y, buttons: 1, bubbles: true,
    }));
  };
  // Frames do not come by themselves while a browser skips time.
  const counts = async () => {
    await wait(50);
    report.draw();
    return report.drawn;
  };
  const span = () => view.to - view.from;
  const press = (selector, name) => {
    const found = [...document.querySelectorAll(selector)].find((one) => one.textContent.includes(name));
    found.click();
    return found;
  };

  await wait(100);
  const seen = {
    title: document.title,
    verdict: document.getElementById("verdict").textContent,
    lines: events.length < 1000 ? events.map(report.line) : [],
    start: await counts(),
    listed: report.listed.length,
    rows: document.querySelectorAll("#log .row").length,
    red: redPixels(),
    overflow: document.documentElement.scrollWidth > innerWidth || document.documentElement.scrollHeight > innerHeight,
  };

  // The whole run, scrolled to the last lane and to the first.
  key("f");
  for (let times = 0; times < 30; times++) key("ArrowDown");
  const last = await counts();
  for (let times = 0; times < 30; times++) key("ArrowUp");
  seen.whole = { ...last, ...(await counts()) };

  // The wheel, in the middle of the lanes, over the same moment before and after.
  const target = events.find((event) => event.kind === "return" && event.outcome === "good" && event.index > 5
    && /^done/.test(event.text)) ?? events.find((event) => event.kind === "return");
  const edge = stage.getBoundingClientRect();
  const x = edge.width / 2;
  const before = { span: span(), at: (view.from + view.to) / 2 };
  report.lookAt(target.at - 1e9, target.at + 1e9);
  const [from, to] = [view.from, view.to];
  stage.dispatchEvent(new WheelEvent("wheel", {
    deltaY: -300, clientX: edge.left + x, clientY: edge.top + 200, bubbles: true, cancelable: true,
  }));
  const share = (x - 118) / (edge.width - 118);
  const under = (start, end) => start + (end - start) * share;
  seen.wheel = {
    narrower: span() < before.span && span() < to - from,
    kept: Math.abs(under(view.from, view.to) - under(from, to)) < 1e6,
  };

  report.lookAt(target.at - 40e6, target.at + 20e6);
  seen.close = await counts();
  const begin = view.from;
  pointer("pointerdown", 500, 150);
  pointer("pointermove", 420, 150);
  pointer("pointerup", 420, 150);
  seen.drag = { moved: view.from !== begin };
  const dragged = view.from;
  key("ArrowLeft");
  seen.keys = { moved: view.from < dragged };

  // A press on the bar of an operation.
  report.lookAt(target.at - 40e6, target.at + 20e6);
  await counts();
  const spot = report.spotOf(target.place);
  const [pressX, pressY] = [(Math.max(spot.left, 120) + spot.right) / 2, (spot.top + spot.bottom) / 2];
  pointer("pointermove", pressX, pressY);
  pointer("pointerdown", pressX, pressY);
  pointer("pointerup", pressX, pressY);
  await wait(500);
  await counts();
  const call = events.find((event) => event.kind === "call" && event.operation === target.operation);
  const why = (pattern) => state.related.filter((link) => pattern.test(link.why)).length;
  seen.click = {
    wanted: call.number,
    selected: state.selected >= 0 ? events[state.selected].number : -1,
    details: document.getElementById("details").textContent.includes(`#${target.operation}`),
    address: location.hash.startsWith(`#e${call.number}@`),
    related: state.related.length,
    outlines: report.drawn.outlines ?? 0,
    appends: why(/^carries/),
    applies: why(/^applied/),
    watched: state.related.filter((link) => events[link.place].kind === "watch").length,
  };
  key("Escape");

  // The search.
  const field = document.getElementById("search");
  field.value = "apples";
  field.dispatchEvent(new Event("input"));
  await wait(300);
  key("Enter", field);
  const first = state.selected;
  await counts();
  const marks = document.querySelectorAll("#log mark").length;
  key("n");
  seen.search = {
    found: report.search.matches.length, marks,
    selected: first >= 0 && report.search.matches.includes(first),
    next: state.selected !== first && report.search.matches.includes(state.selected),
  };

  // The filters.
  report.lookAt(target.at - 40e6, target.at + 20e6);
  press(".chip", "Messages");
  press("#filter-menu label", "m3");
  await counts();
  const kinds = [...report.listed].map((place) => events[place].kind);
  seen.filter = {
    arrows: report.drawn.arrows ?? 0,
    messages: kinds.filter((kind) => kind === "message").length,
    lanes: report.drawn.lanes,
  };
  press(".chip", "Messages");
  press("#filter-menu label", "m3");
  seen.filter.again = report.listed.length;

  const jump = document.getElementById("jump");
  jump.selectedIndex = [...jump.options].findIndex((option) => option.textContent === "fault");
  document.getElementById("jump-next").click();
  seen.jump = { kind: events[state.selected]?.kind };

  location.hash = "#e42";
  await wait(200);
  seen.link = {
    selected: state.selected >= 0 ? events[state.selected].number : -1,
    inView: state.selected >= 0 && events[state.selected].at >= view.from && events[state.selected].at <= view.to,
  };
  key("?");
  seen.help = document.getElementById("help").open;

  seen.mistakes = report.mistakes;
  seen.injected = window.injected !== undefined;
  seen.images = document.images.length;
  const output = document.createElement("output");
  output.id = "seen";
  output.textContent = JSON.stringify(seen).replace(/[<>&]/g, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`);
  document.body.append(output);

  // How much of the layer above the lanes has the colour of a violation.
  function redPixels() {
    const canvas = document.getElementById("focus");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let red = 0;
    for (let at = 0; at < data.length; at += 4) {
      if (data[at] === 0xc8 && data[at + 1] === 0x10 && data[at + 2] === 0x2e && data[at + 3] === 255) red += 1;
    }
    return red;
  }
})();
