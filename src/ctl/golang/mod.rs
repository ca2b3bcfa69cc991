//! Go's ways to write and read values, as far as etcdctl's input and output show them.
//!
//! Scripts compare etcdctl's output byte for byte, and people type what Go's flag package reads. So the
//! tool needs Go's string quoting, durations, numbers and base64 exactly, errors included.
//!
//! Invariant: functions here are pure and know nothing of etcd.

mod base64;
mod duration;
mod number;
mod quote;

pub(super) use base64::base64;
pub(super) use duration::{format_duration, parse_duration};
pub(super) use number::{parse_bool, parse_int, parse_int_any_base, parse_uint};
pub(super) use quote::{quote, unquote_prefix};
