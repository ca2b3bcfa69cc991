//! The page of a run: one HTML file that shows what happened, and why a claim does not hold.
//!
//! ```text
//!   RunSummary --+
//!                +-- data (compact JSON, `rows`) --+
//!   events ------+                                 +--> one HTML file
//!   page/page.html, page.css, *.js ----------------+
//! ```
//!
//! The file needs nothing but a browser: data, style and script are inside, and its content policy
//! forbids it to load anything. What is drawn, and how, is in `page/`; one script is put together from the
//! files there, each of which has one subject. This side only packs the data.
//!
//! Invariants:
//! - the same run gives the same bytes;
//! - no text of a run becomes markup. Keys and values are bytes of a client, so a text may hold anything:
//!   the data has no `<` in it, and the script puts texts into the page as text alone;
//! - an event that this module has never heard of is shown nevertheless, by its field names.

pub mod example;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::cli::Verdict;
use crate::history::{MemberNumber, Time};
use crate::setup::Setup;
use crate::trace::Event;

/// What is known of a run as a whole: the head of its page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// The seed.
    #[serde(serialize_with = "as_text")]
    pub seed: u64,
    /// The profile that the seed was run with.
    pub profile: String,
    /// Whether the run is green.
    pub passed: bool,
    /// The verdict in a sentence.
    pub verdict: String,
    /// The claim that does not hold, by its name; none when the run is green or failed in another way.
    pub claim: Option<String>,
    /// What that claim promises, in a sentence. May be empty.
    pub promise: String,
    /// The command line that repeats this run.
    pub command: String,
    /// How many members there are: `m1` and so on have a lane each, also when nothing happened to them.
    pub members: MemberNumber,
    /// Simulated nanoseconds from the first to the last moment.
    pub simulated: Time,
    /// How often each rare path was reached: see `Trace::markers`.
    pub markers: BTreeMap<String, u64>,
}

/// A number that a script could not hold exactly.
fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// The page, and the places in it, in their order.
const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const STYLE_PLACE: &str = "{{style}}";
const DATA_PLACE: &str = "{{data}}";
const SCRIPT_PLACE: &str = "{{script}}";

/// The files of the script, in the order in which they are put together.
const SCRIPTS: [&str; 14] = [
    include_str!("page/data.js"),
    include_str!("page/words.js"),
    include_str!("page/links.js"),
    include_str!("page/filter.js"),
    include_str!("page/view.js"),
    include_str!("page/lanes.js"),
    include_str!("page/draw.js"),
    include_str!("page/arrows.js"),
    include_str!("page/focus.js"),
    include_str!("page/overview.js"),
    include_str!("page/log.js"),
    include_str!("page/panels.js"),
    include_str!("page/controls.js"),
    include_str!("page/page.js"),
];

/// The HTML of a run that has ended: what it was to be, how it ended, what happened, and the command line
/// that repeats it.
pub fn page(setup: &Setup, verdict: &Verdict, events: &[Event], line: &str) -> String {
    let broken = verdict.violations.first();
    let run = RunSummary {
        seed: setup.seed,
        profile: setup.profile.name().to_owned(),
        passed: broken.is_none(),
        verdict: broken.map_or_else(|| "all claims hold".to_owned(), |(_, text)| text.clone()),
        claim: verdict.claim().map(str::to_owned),
        promise: verdict.claim().and_then(promise).unwrap_or_default().to_owned(),
        command: line.to_owned(),
        members: setup.members,
        simulated: verdict.simulated,
        markers: verdict.markers.clone(),
    };
    render(&run, events)
}

/// What a claim promises, in the words of the documentation.
fn promise(claim: &str) -> Option<&'static str> {
    const DOCUMENTATION: &str = include_str!("../../../docs/simulation.md");
    let name = format!("`{claim}`");
    let rows = DOCUMENTATION
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once(" | "));
    let (_, words) =
        rows.into_iter().find(|(names, _)| format!("`{names}").split(", ").any(|part| part == name))?;
    Some(words)
}

/// The HTML of a run. `events` may come in any order and with gaps; an event keeps its number.
///
/// The size is about 40 bytes an event and 100 KB for the rest.
pub fn render(run: &RunSummary, events: &[Event]) -> String {
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.concat());
    fill(PAGE, &[(STYLE_PLACE, STYLE), (DATA_PLACE, &rows::data(run, events)), (SCRIPT_PLACE, &script)])
}

/// The page with each place taken by its part. What a part holds is not looked at again, so a text that
/// looks like a place stays a text.
fn fill(page: &str, parts: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(page.len() + parts.iter().map(|part| part.1.len()).sum::<usize>());
    let mut rest = page;
    for (place, part) in parts {
        let (before, after) = rest.split_once(place).expect("page.html has its places in this order");
        filled.push_str(before);
        filled.push_str(part);
        rest = after;
    }
    filled + rest
}
