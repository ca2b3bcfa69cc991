//! The page of a run in a real browser: what it draws, what it answers to hands, and that no text of a run
//! does anything in it.
//!
//! Plain `cargo test` leaves this file out, so that nobody needs a browser to work on the simulator; a step
//! of `.ci/run` names it. Chromium is looked for under its usual names, or where `CHROMIUM` says. Without
//! one the tests fail; with `SIM_WITHOUT_BROWSER=1` they pass and say that they saw nothing.
//!
//! ```text
//!   render --> page + probe.js --> chromium --dump-dom   --> what the probe saw, as JSON
//!              page            --> chromium --screenshot --> tmp/report/*.png in the target folder, for people
//! ```
#![cfg(madsim)]
#![expect(
    clippy::disallowed_methods,
    reason = "pages and pictures are files of this machine, not of a member"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sim::report::{self, RunSummary, example};
use sim::trace::{Event, What};

/// What looks at the page from inside.
const PROBE: &str = include_str!("report_browser/probe.js");

/// The names under which Chromium is installed.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Longest that one start of the browser may take, in seconds.
const LIMIT: &str = "120";

/// The browser; none when this machine is excused from having one.
fn browser() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| BROWSERS.map(|name| folder.join(name)))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        let excused = std::env::var_os("SIM_WITHOUT_BROWSER").is_some_and(|value| value == "1");
        assert!(
            excused,
            "no Chromium on the path (looked for {BROWSERS:?}). Install it (Debian: apt-get install chromium), \
             name it in CHROMIUM, or set SIM_WITHOUT_BROWSER=1 to go without this test"
        );
        eprintln!("no browser: the page was not looked at");
    }
    found
}

/// The folder for pages and pictures.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    std::fs::create_dir_all(&folder).expect("a folder for pages");
    folder
}

/// Starts the browser on a page, with a profile of its own that goes when it ends.
fn open(browser: &Path, page: &Path, option: &str) -> Output {
    let name = page.file_stem().expect("a name").to_string_lossy().into_owned();
    let profile = folder().join(format!("profile-{name}-{}", std::process::id()));
    let output = Command::new("timeout")
        .args(["--kill-after=5", LIMIT])
        .arg(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--hide-scrollbars", "--window-size=1280,800", "--virtual-time-budget=60000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(option)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("`timeout` starts the browser");
    std::fs::remove_dir_all(&profile).expect("the browser's profile can go");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} on {name}: {}\n{errors}", browser.display(), output.status);
    output
}

/// What the probe saw on the page of a run. Beside it lies a picture of the page.
fn look(browser: &Path, name: &str, run: &RunSummary, events: &[Event]) -> Value {
    let page = report::render(run, events);
    let path = folder().join(format!("{name}.html"));
    std::fs::write(&path, &page).expect("a page");
    let picture = folder().join(format!("{name}.png"));
    open(browser, &path, &format!("--screenshot={}", picture.display()));
    let size = std::fs::metadata(&picture).expect("a picture").len();
    assert!(size > 20_000, "a picture of {size} bytes has nothing on it");

    let (head, tail) = page.rsplit_once("</body>").expect("a body");
    let probed = folder().join(format!("{name}-probed.html"));
    std::fs::write(&probed, format!("{head}<script>\n{PROBE}</script>\n</body>{tail}")).expect("a page");
    let output = open(browser, &probed, "--dump-dom");
    let document = String::from_utf8_lossy(&output.stdout);
    let Some((_, seen)) = document.rsplit_once("<output id=\"seen\">") else {
        panic!("the probe did not come to its end: {}", String::from_utf8_lossy(&output.stderr));
    };
    let (seen, _) = seen.split_once("</output>").expect("the end of what was seen");
    let seen: Value = serde_json::from_str(seen).expect("the probe writes JSON");
    assert_eq!(seen["mistakes"], json!([]), "errors of the page's script");
    assert_eq!(seen["injected"], false, "a text of the run was run");
    assert_eq!(seen["images"], 0, "a text of the run became an element");
    assert_eq!(seen["overflow"], false, "the page is larger than its window");
    seen
}

fn number(seen: &Value, path: &str) -> u64 {
    let value = seen.pointer(path).unwrap_or_else(|| panic!("nothing at {path} in {seen:#}"));
    value.as_u64().unwrap_or_else(|| panic!("{path} is {value}"))
}

/// Each of these was there at least once.
fn check_some(seen: &Value, picture: &str, names: &[&str]) {
    for name in names {
        assert!(number(seen, &format!("/{picture}/{name}")) > 0, "{picture}/{name}");
    }
}

#[test]
fn a_failing_run_opens_at_its_violation() {
    let Some(browser) = browser() else { return };
    let (run, events) = example::failing();
    let seen = look(&browser, "failing", &run, &events);
    assert_eq!(seen["title"], "seed 7: linearizable-reads");
    assert_eq!(number(&seen, "/start/lanes"), 3 + 3 + 4 + 2, "sections, members, clients, watches");
    check_some(
        &seen,
        "start",
        &["bars", "good", "arrows", "lost", "steps", "roles", "disk", "bands", "words"],
    );
    assert_eq!(number(&seen, "/start/violations"), 1, "the red line");
    assert_eq!(number(&seen, "/start/facts"), 2);
    assert!(number(&seen, "/red") > 500, "red on the picture");
    let verdict = seen["verdict"].as_str().expect("a text");
    for part in ["✕ failed", "linearizable-reads", "A had ended", "before B began", "put /stock/apples = 41"]
    {
        assert!(verdict.contains(part), "{part:?} is not in {verdict:?}");
    }
    check_hands(&seen, events.len());
}

#[test]
fn a_passing_run_opens_as_a_whole() {
    let Some(browser) = browser() else { return };
    let (run, events) = example::passing();
    let seen = look(&browser, "passing", &run, &events);
    assert_eq!(seen["title"], "seed 7: passed");
    let parts = ["bars", "good", "unknown", "traffic", "aggregated", "phases", "faults", "markers"];
    check_some(&seen, "start", &parts);
    assert!(seen["start"]["violations"].is_null() && seen["start"]["facts"].is_null());
    assert_eq!(number(&seen, "/red"), 0);
    assert!(seen["verdict"].as_str().is_some_and(|verdict| verdict.contains("✓ passed")));
    check_hands(&seen, events.len());
}

/// What the probe did by wheel, pointer, keys and address, and what came of it.
fn check_hands(seen: &Value, events: usize) {
    assert_eq!(number(seen, "/listed"), events as u64, "the log has every event");
    assert!(number(seen, "/rows") < 80, "only the lines on the screen are in the document");
    check_some(seen, "close", &["arrows", "bars"]);
    assert_eq!(seen["wheel"]["narrower"], true, "the wheel zooms in");
    assert_eq!(seen["wheel"]["kept"], true, "around the pointer");
    assert_eq!(seen["drag"]["moved"], true, "a drag moves the view");
    assert_eq!(seen["keys"]["moved"], true, "so does a key");
    assert_eq!(seen["click"]["selected"], seen["click"]["wanted"], "a press on a bar selects its call");
    assert_eq!(seen["click"]["details"], true, "the panel quotes it");
    assert_eq!(seen["click"]["address"], true, "the address names it");
    check_some(seen, "click", &["related", "outlines", "appends", "applies", "watched"]);
    assert!(number(seen, "/search/found") > 3);
    assert_eq!(seen["search"]["selected"], true, "Enter selects a match");
    assert_eq!(seen["search"]["next"], true, "and n the next");
    check_some(seen, "search", &["marks"]);
    assert_eq!(seen["filter"]["arrows"], 0, "without messages none is drawn");
    assert_eq!(seen["filter"]["messages"], 0, "nor listed");
    assert_eq!(number(seen, "/filter/lanes") + 1, number(seen, "/start/lanes"), "a member less");
    assert_eq!(number(seen, "/filter/again"), events as u64);
    assert_eq!(seen["jump"]["kind"], "fault");
    assert_eq!(number(seen, "/link/selected"), 42, "an address leads to its event");
    assert_eq!(seen["link"]["inView"], true);
    assert_eq!(seen["help"], true);
}

/// The words of the page are those of the trace, so that a search finds the same in both; and each kind of
/// event is drawn.
#[test]
fn every_kind_of_event_is_said_and_drawn() {
    let Some(browser) = browser() else { return };
    let mut run = example::failing().0;
    for text in [&mut run.verdict, &mut run.promise, &mut run.command, &mut run.profile] {
        *text = example::HOSTILE.to_owned();
    }
    run.claim = Some(example::HOSTILE.to_owned());
    let events = example::every_kind();
    let seen = look(&browser, "every-kind", &run, &events);
    let lines = seen["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), events.len());
    for (line, event) in lines.iter().zip(&events) {
        let (line, expected) = (line.as_str().expect("a line"), event.to_string());
        assert!(expected.ends_with(line), "the page says {line:?} where the trace says {expected:?}");
    }
    let messages = ["arrows", "delivered", "lost", "duplicated", "replayed", "delayed"];
    let lanes = ["roles", "steps", "disk", "cuts", "bars", "good", "open", "words"];
    let sections = ["faults", "bands", "markers", "phases", "violations", "facts"];
    for names in [&messages[..], &lanes[..], &sections[..]] {
        check_some(&seen, "whole", names);
    }
}

/// A violation that names no operation points at the word of a watch that its text names, or at members.
#[test]
fn a_text_names_the_facts_too() {
    let Some(browser) = browser() else { return };
    let (run, mut events) = example::failing();
    let is_word = |event: &&Event| matches!(event.what, What::Watch { stream: 1, heard: true, .. });
    let said = events.iter().find(is_word).expect("a word").clone();
    let mut check = |name: &str, text: String, facts: u64, quoted: &str| {
        let last = events.iter_mut().rfind(|event| matches!(event.what, What::Violation { .. }));
        last.expect("a violation").what = What::Violation { claim: "watch", text, operations: Vec::new() };
        let seen = look(&browser, name, &run, &events);
        assert_eq!(number(&seen, "/start/facts"), facts);
        let verdict = seen["verdict"].as_str().expect("a text");
        assert!(verdict.contains(quoted), "{quoted:?} is not in {verdict:?}");
    };
    let said_text = said.to_string();
    let (_, words) = said_text.split_once("watch    ").expect("a word of a watch");
    let text = format!("watcher 0 of stream 1 on m2 heard at {} ns what never happened", said.at);
    check("watch", text, 1, words);
    check("members", "m1 and m2 lead in one term".to_owned(), 2, "m1 (follower in term 3, applied");
}

/// 200,000 events: everything is there, nothing is drawn one by one.
#[test]
fn a_large_run_is_aggregated() {
    let Some(browser) = browser() else { return };
    let (run, events) = example::large();
    let seen = look(&browser, "large", &run, &events);
    check_some(&seen, "whole", &["traffic", "aggregated", "bars", "disk", "violations"]);
    let counts = ["bars", "arrows", "disk", "words"].map(|name| seen["whole"][name].as_u64().unwrap_or(0));
    let marks: u64 = counts.iter().sum();
    assert!(marks < 30_000, "{marks} marks of {} events", events.len());
    check_hands(&seen, events.len());
}
