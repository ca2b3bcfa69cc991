//! The page without a browser: its data says what the events say, and no text gets out of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::trace::What;

/// The data of a page, as a browser would take it out: up to the first end of a script.
fn data_of(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").expect("data");
    let (data, _) = rest.split_once("</script").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

/// Events as the script of the page puts them together again, in the form that serde gives them.
fn decoded(data: &Value) -> Vec<Value> {
    let at = |row: &Value, place: usize| row[place].as_i64().expect("a number");
    let (mut number, mut time) = (0, 0);
    let mut events = Vec::new();
    for row in data["rows"].as_array().expect("rows") {
        number += at(row, 0);
        time += at(row, 1);
        let kind = &data["kinds"][usize::try_from(at(row, 3)).expect("a place")];
        let mut what = json!({ "kind": kind[0] });
        for (field, place) in kind[1].as_array().expect("fields").iter().zip(4..) {
            let value = &row[place];
            let is_text = field[1] == 1;
            let text = || data["texts"][value.as_u64().expect("a place") as usize].clone();
            what[field[0].as_str().expect("a name")] = if is_text { text() } else { value.clone() };
        }
        events.push(json!({ "number": number, "at": time, "member": row[2], "what": what }));
    }
    events
}

fn check_round_trip(events: &[Event]) {
    let page = render(&RunSummary::default(), events);
    let mut expected: Vec<Value> = events.iter().map(|event| json!(event)).collect();
    for event in &mut expected {
        // A script has no such number: it is shown as text.
        if event["what"]["term"] == u64::MAX {
            event["what"]["term"] = json!(u64::MAX.to_string());
        }
    }
    assert_eq!(decoded(&data_of(&page)), expected);
}

#[test]
fn nothing_of_an_event_is_lost() {
    check_round_trip(&[]);
    check_round_trip(&example::every_kind());
    check_round_trip(&example::failing().1);
}

#[test]
fn events_are_told_in_order_of_time_under_their_own_numbers() {
    let mut events = example::every_kind();
    events.retain(|event| event.number % 3 != 0);
    check_round_trip(&events);
    let straight = render(&RunSummary::default(), &events);
    events.reverse();
    assert_eq!(straight, render(&RunSummary::default(), &events));
}

/// The match makes whoever adds a kind of event add it to the example too.
#[test]
fn the_example_has_every_kind() {
    let name = |event: &Event| match event.what {
        What::Message { .. } => "message",
        What::Snapshot { .. } => "snapshot",
        What::Connection { .. } => "connection",
        What::Role { .. } => "role",
        What::Progress { .. } => "progress",
        What::Disk { .. } => "disk",
        What::Life { .. } => "life",
        What::Call { .. } => "call",
        What::Return { .. } => "return",
        What::Watch { .. } => "watch",
        What::Fault { .. } => "fault",
        What::Phase { .. } => "phase",
        What::Marker { .. } => "marker",
        What::Violation { .. } => "violation",
    };
    let kinds: BTreeSet<&str> = example::every_kind().iter().map(name).collect();
    assert_eq!(kinds.len(), 14);
    for kind in kinds {
        assert!(
            SCRIPTS[1].contains(&format!("  {kind}(")) || SCRIPTS[1].contains(&format!("  {kind}:")),
            "{kind}"
        );
    }
}

/// However a text looks, the page has the same elements, and the data stays where it is.
#[test]
fn no_text_becomes_markup() {
    let mut run = example::failing().0;
    let plain = render(&run, &[]);
    let hostile = example::HOSTILE.to_owned();
    run.profile = hostile.clone();
    run.verdict = hostile.clone();
    run.claim = Some(hostile.clone());
    run.promise = hostile.clone();
    run.command = hostile.clone();
    let page = render(&run, &example::every_kind());
    assert_eq!(page.matches('<').count(), plain.matches('<').count());
    assert_eq!(page.matches(SCRIPT_PLACE).count(), data_of(&page).to_string().matches(SCRIPT_PLACE).count());
    assert_eq!(data_of(&page)["run"]["claim"], hostile);
    assert!(!page.contains(['\u{2028}', '\u{2029}']));
}

#[test]
fn the_page_is_whole_and_stands_alone() {
    let page = render(&example::passing().0, &[]);
    for place in [STYLE_PLACE, DATA_PLACE, SCRIPT_PLACE] {
        assert!(!page.contains(place), "{place} is left");
    }
    for word in
        ["http://", "https://", "//cdn", "@import", "import(", "fetch(", "innerHTML", "document.write"]
    {
        assert!(!page.contains(word), "the page says {word}");
    }
    let script = SCRIPTS.concat();
    assert!(!script.contains("</script") && !script.contains("<!--"));
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let render = || {
        let (run, events) = example::failing();
        render(&run, &events)
    };
    assert_eq!(render(), render());
}

#[test]
fn a_seed_is_exact() {
    let run = RunSummary { seed: u64::MAX, ..RunSummary::default() };
    assert_eq!(data_of(&render(&run, &[]))["run"]["seed"], u64::MAX.to_string());
}

#[test]
fn a_large_run_is_a_small_page() {
    let (run, events) = example::large();
    assert!(events.len() > 180_000, "{} events", events.len());
    let bytes = render(&run, &events).len();
    assert!(bytes < events.len() * 50 + 200_000, "{bytes} bytes for {} events", events.len());
}

#[test]
fn the_page_tells_what_the_broken_claim_promises() {
    for bug in crate::planted::list() {
        for claim in bug.claims.iter().map(|claim| claim.name()) {
            assert!(
                promise(claim).is_some_and(|words| words.len() > 10),
                "docs/simulation.md lacks {claim:?}"
            );
        }
    }
    assert_eq!(promise("watch-caught"), None);
    assert_eq!(promise("no-such-claim"), None);
}
