//! placeholder
use crate::setup::Setup; use crate::trace::Event; use crate::cli::Verdict;
pub fn page(_setup: &Setup, _verdict: &Verdict, _events: &[Event], _line: &str) -> String { String::new() }
