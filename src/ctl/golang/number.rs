//! Numbers and booleans as `strconv` reads them, with its error texts.

use std::num::{IntErrorKind, ParseIntError};

use super::quote;

/// A signed number in `base` (2 to 36), with an optional sign.
///
/// # Errors
/// `strconv.ParseInt`'s text.
pub fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    i64::from_str_radix(text, base).map_err(|error| describe("ParseInt", text, &error))
}

/// An unsigned number in `base` (2 to 36), without a sign.
///
/// # Errors
/// `strconv.ParseUint`'s text.
pub fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    if text.starts_with('+') {
        return Err(failure("ParseUint", text, "invalid syntax"));
    }
    u64::from_str_radix(text, base).map_err(|error| describe("ParseUint", text, &error))
}

/// A signed number whose prefix says its base (`0x`, `0o`, `0b`, `0`), as flags take it.
///
/// # Errors
/// `strconv.ParseInt`'s text.
pub fn parse_int_any_base(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("", &text[1..]),
        _ => ("", text),
    };
    let (base, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some(two) if two.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return Err(failure("ParseInt", text, "invalid syntax"));
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|error| describe("ParseInt", text, &error))
}

/// A boolean.
///
/// # Errors
/// `strconv.ParseBool`'s text.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(failure("ParseBool", text, "invalid syntax")),
    }
}

fn describe(function: &str, text: &str, error: &ParseIntError) -> String {
    let reason = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    failure(function, text, reason)
}

fn failure(function: &str, text: &str, reason: &str) -> String {
    format!("strconv.{function}: parsing {}: {reason}", quote(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_base() {
        assert_eq!(parse_int("-10", 16), Ok(-16));
        assert_eq!(parse_int("+10", 10), Ok(10));
        assert_eq!(parse_uint("ff", 16), Ok(255));
        assert_eq!(parse_int("zz", 16).unwrap_err(), "strconv.ParseInt: parsing \"zz\": invalid syntax");
        assert_eq!(
            parse_int("99999999999999999999", 10).unwrap_err(),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
        for text in ["-1", "+1", "", "1_0", "0x1"] {
            let expected = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
            assert_eq!(parse_uint(text, 16).unwrap_err(), expected);
        }
    }

    #[test]
    fn flags_say_their_base() {
        for (text, number) in
            [("12", 12), ("-0x10", -16), ("0b11", 3), ("0o17", 15), ("017", 15), ("0", 0), ("-0", 0)]
        {
            assert_eq!(parse_int_any_base(text), Ok(number), "{text}");
        }
        for text in ["", "-", "0x", "0x-1", "--1", "é", "1e3"] {
            assert!(parse_int_any_base(text).is_err(), "{text}");
        }
        assert_eq!(parse_int_any_base("-9223372036854775808"), Ok(i64::MIN));
    }

    #[test]
    fn booleans_have_six_spellings() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("FALSE"), Ok(false));
        assert_eq!(parse_bool("maybe").unwrap_err(), "strconv.ParseBool: parsing \"maybe\": invalid syntax");
    }
}
