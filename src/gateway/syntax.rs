//! Where a JSON value ends, and what is wrong with one that does not: the grammar of Go's `encoding/json`,
//! byte by byte, with its texts.
//!
//! Bodies come in pieces and may hold several values, so the scanner takes bytes as they come and says
//! where the first value ends. It keeps what it needs to know and none of the bytes.

/// Arrays and objects within each other, beyond which a value is refused (Go).
const DEEPEST: usize = 10_000;

/// Follows one value.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: State,
    /// The arrays and objects that are open.
    open: Vec<Open>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Value,
    ValueOrEndOfArray,
    Key,
    KeyOrEndOfObject,
    AfterValue,
    InString,
    Escape,
    /// This many hexadecimal digits.
    Hexadecimal(u8),
    AfterMinus,
    InInteger,
    /// Not a digit.
    AfterInteger,
    AfterPoint,
    InFraction,
    AfterE,
    AfterSignOfE,
    InExponent,
    /// A word, of which so many bytes were there.
    Word(&'static str, usize),
}

/// What a bracket has opened, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Array,
    /// An object whose key was begun.
    Key,
    /// An object whose value was begun.
    Value,
}

/// What a byte means.
enum Step {
    /// It belongs to the value, which goes on.
    Within,
    /// It is the last byte of the value.
    Last,
    /// It does not belong to the value, which has ended before it.
    Behind,
}

impl Scanner {
    /// Goes on with `bytes`. Gives how many of them belong to the value, if it ends here.
    ///
    /// # Errors
    /// What is wrong, in the words of Go.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        for (place, &byte) in bytes.iter().enumerate() {
            // Most of what comes is text in strings.
            if self.state == State::InString && byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            match self.step(byte)? {
                Step::Within => {}
                Step::Last => return Ok(Some(place + 1)),
                Step::Behind => return Ok(Some(place)),
            }
        }
        Ok(None)
    }

    /// Whether the value is complete if nothing follows, as only a number can be without its last byte.
    pub(super) fn is_complete(&mut self) -> bool {
        matches!(self.step(b' '), Ok(Step::Behind))
    }

    fn step(&mut self, byte: u8) -> Result<Step, String> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let state =
            match self.state {
                State::Value | State::ValueOrEndOfArray | State::Key | State::KeyOrEndOfObject
                    if is_space =>
                {
                    return Ok(Step::Within);
                }
                State::ValueOrEndOfArray if byte == b']' => return Ok(self.close()),
                State::Value | State::ValueOrEndOfArray => self.begin(byte)?,
                State::KeyOrEndOfObject if byte == b'}' => return Ok(self.close()),
                State::Key | State::KeyOrEndOfObject if byte == b'"' => State::InString,
                State::Key | State::KeyOrEndOfObject => {
                    return Err(invalid(byte, "looking for beginning of object key string"));
                }
                State::AfterValue => return self.after_value(byte, is_space),
                State::InString => match byte {
                    b'"' => State::AfterValue,
                    b'\\' => State::Escape,
                    0..0x20 => return Err(invalid(byte, "in string literal")),
                    _ => State::InString,
                },
                State::Escape => match byte {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => State::InString,
                    b'u' => State::Hexadecimal(4),
                    _ => return Err(invalid(byte, "in string escape code")),
                },
                State::Hexadecimal(left) if byte.is_ascii_hexdigit() => match left {
                    1 => State::InString,
                    _ => State::Hexadecimal(left - 1),
                },
                State::Hexadecimal(_) => return Err(invalid(byte, "in \\u hexadecimal character escape")),
                State::Word(word, seen) if word.as_bytes().get(seen) == Some(&byte) => {
                    if seen + 1 == word.len() { State::AfterValue } else { State::Word(word, seen + 1) }
                }
                State::Word(word, seen) => {
                    let expected = word.get(seen..=seen).unwrap_or_default();
                    return Err(invalid(byte, &format!("in literal {word} (expecting '{expected}')")));
                }
                number => match after_digit(number, byte)? {
                    Some(state) => state,
                    None => return self.after_value(byte, is_space),
                },
            };
        self.state = state;
        Ok(Step::Within)
    }

    /// The first byte of a value.
    fn begin(&mut self, byte: u8) -> Result<State, String> {
        Ok(match byte {
            b'{' => self.open(byte, Open::Key, State::KeyOrEndOfObject)?,
            b'[' => self.open(byte, Open::Array, State::ValueOrEndOfArray)?,
            b'"' => State::InString,
            b'-' => State::AfterMinus,
            b'0' => State::AfterInteger,
            b'1'..=b'9' => State::InInteger,
            b't' => State::Word("true", 1),
            b'f' => State::Word("false", 1),
            b'n' => State::Word("null", 1),
            _ => return Err(invalid(byte, "looking for beginning of value")),
        })
    }

    fn open(&mut self, byte: u8, what: Open, next: State) -> Result<State, String> {
        if self.open.len() >= DEEPEST {
            return Err(invalid(byte, "exceeded max depth"));
        }
        self.open.push(what);
        Ok(next)
    }

    fn close(&mut self) -> Step {
        self.open.pop();
        self.state = State::AfterValue;
        if self.open.is_empty() { Step::Last } else { Step::Within }
    }

    /// A byte behind a value, or behind a key.
    fn after_value(&mut self, byte: u8, is_space: bool) -> Result<Step, String> {
        let Some(innermost) = self.open.last_mut() else { return Ok(Step::Behind) };
        self.state = match (*innermost, byte) {
            _ if is_space => State::AfterValue,
            (Open::Key, b':') => {
                *innermost = Open::Value;
                State::Value
            }
            (Open::Value, b',') => {
                *innermost = Open::Key;
                State::Key
            }
            (Open::Array, b',') => State::Value,
            (Open::Value, b'}') | (Open::Array, b']') => return Ok(self.close()),
            (Open::Key, _) => return Err(invalid(byte, "after object key")),
            (Open::Value, _) => return Err(invalid(byte, "after object key:value pair")),
            (Open::Array, _) => return Err(invalid(byte, "after array element")),
        };
        Ok(Step::Within)
    }
}

/// What comes next in a number; none when it has ended before `byte`.
fn after_digit(state: State, byte: u8) -> Result<Option<State>, String> {
    let digit = byte.is_ascii_digit();
    Ok(Some(match state {
        State::AfterMinus => match byte {
            b'0' => State::AfterInteger,
            b'1'..=b'9' => State::InInteger,
            _ => return Err(invalid(byte, "in numeric literal")),
        },
        State::InInteger if digit => State::InInteger,
        State::InInteger | State::AfterInteger if byte == b'.' => State::AfterPoint,
        State::AfterPoint if digit => State::InFraction,
        State::AfterPoint => return Err(invalid(byte, "after decimal point in numeric literal")),
        State::InFraction if digit => State::InFraction,
        State::InInteger | State::AfterInteger | State::InFraction if matches!(byte, b'e' | b'E') => {
            State::AfterE
        }
        State::AfterE if matches!(byte, b'+' | b'-') => State::AfterSignOfE,
        State::AfterE | State::AfterSignOfE if digit => State::InExponent,
        State::AfterE | State::AfterSignOfE => return Err(invalid(byte, "in exponent of numeric literal")),
        State::InExponent if digit => State::InExponent,
        _ => return Ok(None),
    }))
}

fn invalid(byte: u8, context: &str) -> String {
    format!("invalid character {} {context}", quote(byte))
}

/// A byte as Go quotes it in an error: as the character of that number.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        0..0x20 | 0x7f => format!(r"'\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first value of a text ends, given whole and byte by byte.
    fn scan(text: &[u8]) -> Result<Option<usize>, String> {
        let whole = Scanner::default().advance(text);
        let mut scanner = Scanner::default();
        let mut in_bytes = Ok(None);
        for place in 0..text.len() {
            in_bytes = scanner.advance(&text[place..=place]).map(|end| end.map(|end| place + end));
            if in_bytes != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, in_bytes, "{}", String::from_utf8_lossy(text));
        whole
    }

    #[test]
    fn a_value_ends_where_go_ends_it() {
        let check = |text: &str, end: Option<usize>| assert_eq!(scan(text.as_bytes()), Ok(end), "{text}");
        check("{}", Some(2));
        check("{} x", Some(2));
        check(" {\"a\" : [1, -2.5e+3, true, null, {\"b\":\"\\\"}\\u00e9\"}]}}", Some(52));
        check("[]", Some(2));
        // What has no closing bracket ends before the next byte, whatever that is.
        check("\"x\"}", Some(3));
        check("1x", Some(1));
        check("01", Some(1));
        check("null ", Some(4));
        for unfinished in ["", " ", "{", "{\"a\":1", "\"", "nul", "-", "1", "[1,", "\"\\u12"] {
            check(unfinished, None);
        }
    }

    #[test]
    fn a_number_is_complete_at_the_end_of_all_bytes() {
        let check = |text: &str, complete| {
            let mut scanner = Scanner::default();
            assert_eq!(scanner.advance(text.as_bytes()), Ok(None), "{text}");
            assert_eq!(scanner.is_complete(), complete, "{text}");
        };
        check("12", true);
        check("\"x\"", true);
        check("true", true);
        for unfinished in ["", " ", "-", "1.", "1e", "{", "tru", "[1", "\"x"] {
            check(unfinished, false);
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_go() {
        let check = |text: &[u8], expected: &str| {
            assert_eq!(scan(text), Err(format!("invalid character {expected}")), "{text:?}");
        };
        check(b"}", "'}' looking for beginning of value");
        check(b"x", "'x' looking for beginning of value");
        check(b"\xef\xbb\xbf{}", "'ï' looking for beginning of value");
        check(b"\x85", r"'\u0085' looking for beginning of value");
        check(b"\x01", r"'\x01' looking for beginning of value");
        check(b"'", r"'\'' looking for beginning of value");
        check(b"{\"a\":1,}", "'}' looking for beginning of object key string");
        check(b"{a:1}", "'a' looking for beginning of object key string");
        check(b"{]", "']' looking for beginning of object key string");
        check(b"{\"a\" 1}", "'1' after object key");
        check(b"{\"a\":1 \"b\":2}", "'\"' after object key:value pair");
        check(b"{\"a\":01}", "'1' after object key:value pair");
        check(b"{\"a\":1]", "']' after object key:value pair");
        check(b"[1 2]", "'2' after array element");
        check(b"[1}", "'}' after array element");
        check(b"[1,]", "']' looking for beginning of value");
        check(b"[}", "'}' looking for beginning of value");
        check(b"{\"a\":tru}", "'}' in literal true (expecting 'e')");
        check(b"nulx", "'x' in literal null (expecting 'l')");
        check(b"fx", "'x' in literal false (expecting 'a')");
        check(b"[-]", "']' in numeric literal");
        check(b"[1.]", "']' after decimal point in numeric literal");
        check(b"[1e]", "']' in exponent of numeric literal");
        check(b"[1e+]", "']' in exponent of numeric literal");
        check(b"\"\\x\"", "'x' in string escape code");
        check(b"\"\\u12\"", "'\"' in \\u hexadecimal character escape");
        check(b"\"a\nb\"", r"'\n' in string literal");
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(scan(nested(DEEPEST).as_bytes()), Ok(Some(2 * DEEPEST)));
        let error = scan(nested(DEEPEST + 1).as_bytes()).unwrap_err();
        assert_eq!(error, "invalid character '[' exceeded max depth");
    }
}
