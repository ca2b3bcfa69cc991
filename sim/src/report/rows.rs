//! The data of a page: JSON that is small for 200,000 events.
//!
//! ```text
//!   { "run":   the head,
//!     "kinds": [ ["role", [["leader", 0], ["role", 1], ["term", 0]]], ... ],
//!     "texts": [ "follower", "wal/0000000000000001", ... ],
//!     "rows":  [ [number, time, member, kind, leader, role, term], ... ] }
//! ```
//!
//! A kind of event has its fields named once, in `kinds`, each with 1 when it holds a text and 0 when it
//! holds a plain value; a row then is its values in that order. A text is in `texts` once, and a place in
//! it elsewhere. Number and time are differences from the row before. All of this is taken from the form
//! that serde gives an event, so that a new kind or field needs nothing here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::RunSummary;
use crate::trace::Event;

/// Largest whole number that a script holds exactly.
const EXACT: u64 = (1 << 53) - 1;

/// The data of a run, fit to stand in a `<script>` element: without `<`.
pub(super) fn data(run: &RunSummary, events: &[Event]) -> String {
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_key(|event| (event.at, event.number));
    let mut tables = Tables::default();
    let mut rows = String::new();
    let (mut number, mut at) = (0, 0);
    for event in ordered {
        if !rows.is_empty() {
            rows.push_str(",\n");
        }
        rows.push_str(&tables.row(event, i128::from(event.number) - number, i128::from(event.at) - at));
        (number, at) = (i128::from(event.number), i128::from(event.at));
    }
    let run = json!(run);
    let (kinds, texts) = (json!(tables.kinds), json!(tables.texts.in_order()));
    let data = format!("{{\"run\":{run},\n\"kinds\":{kinds},\n\"texts\":{texts},\n\"rows\":[\n{rows}]}}\n");
    // These letters stand only in strings of JSON, where an escape means the same. Without `<` no text can
    // end the element or open a comment; the other two end a line for some readers of a script.
    data.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// What rows refer to.
#[derive(Default)]
struct Tables {
    kinds: Vec<(String, Vec<(String, u8)>)>,
    texts: Texts,
}

impl Tables {
    fn row(&mut self, event: &Event, number: i128, at: i128) -> String {
        let mut fields = match json!(event.what) {
            Value::Object(fields) => fields,
            other => unreachable!("an event is an object with a kind, not {other}"),
        };
        let kind = match fields.remove("kind") {
            Some(Value::String(kind)) => kind,
            other => unreachable!("the kind of an event is a text, not {other:?}"),
        };
        let kind = self.kind(kind, &fields);
        let mut row = format!("[{number},{at},{},{kind}", event.member);
        for value in fields.into_values() {
            row.push(',');
            row.push_str(&self.value(value));
        }
        row.push(']');
        row
    }

    /// The place of a kind in the table. What type a field has is that of its Rust type, so the first
    /// event speaks for all.
    fn kind(&mut self, kind: String, fields: &serde_json::Map<String, Value>) -> usize {
        self.kinds.iter().position(|known| known.0 == kind).unwrap_or_else(|| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), u8::from(value.is_string())));
            self.kinds.push((kind, fields.collect()));
            self.kinds.len() - 1
        })
    }

    fn value(&mut self, value: Value) -> String {
        match value {
            Value::String(text) => self.texts.place(text).to_string(),
            // Shown, never reckoned with.
            Value::Number(number) if number.as_u64().is_some_and(|number| number > EXACT) => {
                format!("\"{number}\"")
            }
            other => other.to_string(),
        }
    }
}

/// Texts, each once.
#[derive(Default)]
struct Texts {
    places: BTreeMap<String, usize>,
}

impl Texts {
    fn place(&mut self, text: String) -> usize {
        let next = self.places.len();
        *self.places.entry(text).or_insert(next)
    }

    fn in_order(&self) -> Vec<&str> {
        let mut texts = vec![""; self.places.len()];
        for (text, place) in &self.places {
            texts[*place] = text;
        }
        texts
    }
}
