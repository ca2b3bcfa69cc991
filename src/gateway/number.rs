//! Numbers of JSON as integers, however they are written: `100`, `1e2` and `100.0` are the same.

/// Bytes that end no number: `5x` is none.
fn goes_on(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_')
}

/// Most digits that are looked at: those of the largest 64-bit number.
const MOST_DIGITS: usize = 20;

/// The integer that `text` begins with, if it does. What follows behind a blank or a bracket is not looked at (protojson).
pub(super) fn integer(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let negative = bytes.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let digits = |at: &mut usize| {
        let begin = *at;
        *at += bytes[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        &bytes[begin..*at]
    };
    let whole = match bytes.get(at)? {
        b'0' => {
            at += 1;
            &[][..]
        }
        _ => Some(digits(&mut at)).filter(|digits| !digits.is_empty())?,
    };
    let mut fraction: &[u8] = &[];
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        fraction = Some(digits(&mut at)).filter(|digits| !digits.is_empty())?;
    }
    let mut exponent = 0;
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        let sign = at;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        digits(&mut at);
        exponent = text.get(sign..at)?.parse::<i32>().ok()?;
    }
    if bytes.get(at).is_some_and(|&byte| goes_on(byte)) {
        return None;
    }
    let magnitude = shift(whole, fraction, exponent)?;
    Some(if negative { -magnitude } else { magnitude })
}

/// The number whose digits are `whole.fraction`, times ten to the power of `exponent`, if that is an integer.
fn shift(whole: &[u8], fraction: &[u8], exponent: i32) -> Option<i128> {
    let significant = fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    let fraction = &fraction[..significant];
    if whole.is_empty() && fraction.is_empty() {
        return Some(0);
    }
    let mut digits = Vec::with_capacity(MOST_DIGITS);
    let power = usize::try_from(exponent.unsigned_abs()).ok()?;
    if exponent >= 0 {
        if fraction.len() > power || whole.len() + power > MOST_DIGITS {
            return None;
        }
        digits.extend_from_slice(whole);
        digits.extend_from_slice(fraction);
        digits.resize(whole.len() + power, b'0');
    } else {
        let kept = whole.len().checked_sub(power).filter(|_| fraction.is_empty())?;
        if whole[kept..].iter().any(|&digit| digit != b'0') {
            return None;
        }
        digits.extend_from_slice(&whole[..kept]);
    }
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_may_be_written_in_many_ways() {
        let check = |text: &str, expected: i128| assert_eq!(integer(text), Some(expected), "{text}");
        check("0", 0);
        check("-0", 0);
        check("0.000", 0);
        check("0e-99", 0);
        check("12", 12);
        check("-12", -12);
        check("5.0", 5);
        check("1e2", 100);
        check("1E+2", 100);
        check("1.25e3", 1250);
        check("0.5e1", 5);
        check("1200e-2", 12);
        check("18446744073709551615", u64::MAX.into());
        check("-9223372036854775808", i64::MIN.into());
        // Only the first token of a string counts.
        check("5 x", 5);
        check("5,", 5);
    }

    #[test]
    fn what_is_no_integer_is_none() {
        for text in
            ["", "-", "x", "5x", "5.", "5.5", "1e", "1e+", "1.25e1", "12e-1", "1e-1", "1e20", "1e99999999999"]
        {
            assert_eq!(integer(text), None, "{text}");
        }
        assert_eq!(integer("+5"), None);
        assert_eq!(integer("1-2"), None);
    }
}
