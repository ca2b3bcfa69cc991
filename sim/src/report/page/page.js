// Start: one picture is drawn for any number of changes before it.

let picture = 0;
let wholePicture = false;

function redraw() {
  wholePicture = true;
  redrawFocus();
}

function redrawFocus() {
  if (picture === 0) picture = requestAnimationFrame(draw);
}

function draw() {
  picture = 0;
  if (wholePicture) {
    wholePicture = false;
    layOut();
    drawBase();
    drawOverview();
    followView();
    drawLog();
  }
  drawFocus();
}

function measure() {
  const place = document.getElementById("stage").getBoundingClientRect();
  view.width = Math.floor(place.width);
  view.height = Math.floor(place.height);
  layOut();
  scrollTo(view.top);
}

function start() {
  document.title = `seed ${run.seed}: ${run.passed ? "passed" : run.claim ?? "failed"}`;
  readInk();
  applyFilter();
  sizeLog();
  showVerdict();
  setUpFilters();
  setUpSearch();
  setUpJumps();
  setUpButtons();
  measure();
  // Drawn at once: this comes before the browser paints, so nothing is ever seen stretched.
  new ResizeObserver(() => { measure(); draw(); }).observe(document.getElementById("stage"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readInk(); redraw(); });
  window.addEventListener("hashchange", () => follow(location.hash));
  if (!follow(location.hash)) {
    if (violations.length > 0) lookAtViolation(0);
    else showDetails();
  }
}

// For the console of a browser, and for tests.
window.report = {
  run, events, mistakes, view, state, search, hidden,
  get drawn() { return { ...drawn, ...drawnAbove }; },
  get listed() { return listed; },
  line, select, lookAt, spotOf, draw, address,
};

start();
