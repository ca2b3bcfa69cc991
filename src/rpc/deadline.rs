//! The time that a client gives its call (`grpc-timeout`), which binds the server as well: when it is over
//! the handler is dropped, and with it whatever the call waits for, keeps open or stands in line with.
//!
//! etcd resets the stream then, which clients whose own clock has not run out take for a cancellation. Here
//! the call ends with the status that says what happened.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tonic::Status;

use super::status::status;
use crate::rt;
use crate::types::RequestError;

/// The header that carries the time.
pub(super) const HEADER: &str = "grpc-timeout";

/// Most characters of its value: eight digits and a unit.
const LONGEST: usize = 9;

/// When the time of a call is over, if ever.
#[derive(Default)]
pub(super) struct Deadline {
    timeout: Option<Duration>,
    /// Made by the first poll: most calls are answered before one.
    timer: Option<Pin<Box<rt::Sleep>>>,
}

impl Deadline {
    /// The deadline that a header sets, from now on.
    ///
    /// # Errors
    /// For a time that is none, in the words of gRPC for Go.
    pub(super) fn from_header(value: &HeaderValue) -> Result<Self, String> {
        match parse(&String::from_utf8_lossy(value.as_bytes())) {
            Ok(timeout) => Ok(Self { timeout: Some(timeout), timer: None }),
            Err(reason) => Err(format!("malformed {HEADER}: {reason}")),
        }
    }

    /// Whether it was over before the call began.
    pub(super) fn is_past(&self) -> bool {
        self.timeout == Some(Duration::ZERO)
    }

    /// Ready with what the client is to hear once the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(timeout) = self.timeout else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(rt::sleep(timeout)));
        timer.as_mut().poll(cx).map(|()| status(RequestError::DeadlineExceeded))
    }
}

/// Reads a number and a unit.
fn parse(value: &str) -> Result<Duration, String> {
    if value.len() < 2 {
        return Err(format!("transport: timeout string is too short: {value:?}"));
    }
    if value.len() > LONGEST {
        return Err(format!("transport: timeout string is too long: {value:?}"));
    }
    let unrecognized = || format!("transport: timeout unit is not recognized: {value:?}");
    let (digits, unit) = value.split_at_checked(value.len() - 1).ok_or_else(unrecognized)?;
    let of: fn(u64) -> Duration = match unit {
        "H" => |number| Duration::from_secs(number * 3600),
        "M" => |number| Duration::from_secs(number * 60),
        "S" => Duration::from_secs,
        "m" => Duration::from_millis,
        "u" => Duration::from_micros,
        "n" => Duration::from_nanos,
        _ => return Err(unrecognized()),
    };
    // A sign is no digit, though it would be part of a number.
    let number = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(of).ok_or_else(|| format!("strconv.ParseUint: parsing {digits:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        let check = |value, expected| assert_eq!(parse(value), Ok(expected), "{value}");
        check("5S", Duration::from_secs(5));
        check("4990m", Duration::from_millis(4990));
        check("0n", Duration::ZERO);
        check("99999999H", Duration::from_secs(99_999_999 * 3600));
    }

    #[test]
    fn anything_else_is_refused_in_the_words_of_go() {
        let check = |value, expected: &str| assert_eq!(parse(value), Err(expected.to_owned()));
        check("S", "transport: timeout string is too short: \"S\"");
        check("123456789S", "transport: timeout string is too long: \"123456789S\"");
        check("5x", "transport: timeout unit is not recognized: \"5x\"");
        check("5\u{fffd}", "transport: timeout unit is not recognized: \"5\u{fffd}\"");
        check("xS", "strconv.ParseUint: parsing \"x\": invalid syntax");
        check("+1S", "strconv.ParseUint: parsing \"+1\": invalid syntax");
    }
}
