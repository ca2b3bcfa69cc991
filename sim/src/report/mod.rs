//! placeholder
use crate::cli::Verdict;
use crate::setup::Setup;
use crate::trace::Event;
pub fn page(_setup: &Setup, _verdict: &Verdict, _events: &[Event], _line: &str) -> String {
    String::new()
}
