//! The tokens of a JSON value whose grammar is known to be right (see `syntax`), each with its place.
//!
//! Commas and colons say nothing that the other tokens do not, so they are passed over. What the grammar of
//! Go's `encoding/json` lets through and protobuf's own reader does not is found here: text that is no UTF-8,
//! and halves of surrogate pairs.

use std::borrow::Cow;

/// Bytes of `\u` and its digits.
const ESCAPE: usize = 6;

/// One token.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind<'a>,
    /// As it was written.
    pub(super) raw: &'a str,
    /// Where it begins, in bytes.
    pub(super) place: usize,
}

/// What a token is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenKind<'a> {
    ObjectOpen,
    ObjectClose,
    ArrayOpen,
    ArrayClose,
    /// A string, or the name of a field, without its escapes.
    String(Cow<'a, str>),
    /// In the form of [`Token::raw`].
    Number,
    Bool(bool),
    Null,
}

/// Reads the tokens of one value.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    place: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of a value, which begins with the first byte.
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { text, place: 0 }
    }

    /// The next token.
    ///
    /// # Errors
    /// What is wrong, in the words of protobuf for Go.
    pub(super) fn next(&mut self) -> Result<Token<'a>, String> {
        let first = self.peek();
        let place = self.place;
        let rest = &self.text[place..];
        let (kind, length) = match first {
            Some(b'{') => (TokenKind::ObjectOpen, 1),
            Some(b'}') => (TokenKind::ObjectClose, 1),
            Some(b'[') => (TokenKind::ArrayOpen, 1),
            Some(b']') => (TokenKind::ArrayClose, 1),
            Some(b't') => (TokenKind::Bool(true), "true".len()),
            Some(b'f') => (TokenKind::Bool(false), "false".len()),
            Some(b'n') => (TokenKind::Null, "null".len()),
            Some(b'"') => {
                let (string, length) = self.string()?;
                (TokenKind::String(string), length)
            }
            Some(_) => {
                let ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b'}' | b']');
                (TokenKind::Number, rest.iter().position(ends).unwrap_or(rest.len()))
            }
            None => return Err(unexpected_end()),
        };
        let raw =
            rest.get(..length).and_then(|raw| std::str::from_utf8(raw).ok()).ok_or_else(unexpected_end)?;
        self.place += length;
        Ok(Token { kind, raw, place })
    }

    /// The first byte of the next token, by which the kinds are told apart.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let passed = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':');
        self.place += self.text[self.place..].iter().take_while(passed).count();
        self.text.get(self.place).copied()
    }

    /// Passes over the value that comes next.
    pub(super) fn skip(&mut self) -> Result<(), String> {
        let mut depth = 0;
        loop {
            match self.next()?.kind {
                TokenKind::ObjectOpen | TokenKind::ArrayOpen => depth += 1,
                TokenKind::ObjectClose | TokenKind::ArrayClose => depth -= 1,
                // The names of fields come before their values: they count as little.
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The string that begins here, and its length as written, with its quotes.
    fn string(&self) -> Result<(Cow<'a, str>, usize), String> {
        let text = &self.text[self.place..];
        let mut plain = Cow::Borrowed("");
        let mut at = 1;
        loop {
            let run = text[at..].iter().position(|byte| matches!(byte, b'"' | b'\\'));
            let end = at + run.ok_or_else(unexpected_end)?;
            let piece = std::str::from_utf8(&text[at..end])
                .map_err(|_| self.syntax(self.place, "invalid UTF-8 in string"))?;
            plain += piece;
            if text[end] == b'"' {
                return Ok((plain, end + 1));
            }
            let (character, length) = self.escape(&text[end..])?;
            plain.to_mut().push(character);
            at = end + length;
        }
    }

    /// The character of the escape that `text` begins with, and its length as written.
    fn escape(&self, text: &[u8]) -> Result<(char, usize), String> {
        let simple = match text.get(1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(&other) if other != b'u' => char::from(other),
            _ => return self.unicode(text),
        };
        Ok((simple, 2))
    }

    /// The character of `\u` and four digits, or of two of them.
    fn unicode(&self, text: &[u8]) -> Result<(char, usize), String> {
        let unit = |text: &[u8]| {
            let digits = text.get(..ESCAPE)?.strip_prefix(br"\u")?;
            u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let first = unit(text).ok_or_else(unexpected_end)?;
        if let Some(character) = char::from_u32(first.into()) {
            return Ok((character, ESCAPE));
        }
        let rest = &text[ESCAPE..];
        let escape = rest.get(..ESCAPE).ok_or_else(unexpected_end)?;
        let pair = unit(rest).and_then(|second| char::decode_utf16([first, second]).next()?.ok());
        pair.map(|character| (character, 2 * ESCAPE)).ok_or_else(|| {
            let written = String::from_utf8_lossy(escape);
            self.syntax(self.place, &format!("invalid escape code {written:?} in string"))
        })
    }

    /// An error of the grammar at a place.
    pub(super) fn syntax(&self, place: usize, what: &str) -> String {
        let (line, column) = self.position(place);
        format!("proto: syntax error (line {line}:{column}): {what}")
    }

    /// An error of the meaning at a place.
    pub(super) fn meaning(&self, place: usize, what: &str) -> String {
        let (line, column) = self.position(place);
        format!("proto: (line {line}:{column}): {what}")
    }

    /// Line and column of a place, counted from 1; columns are characters.
    fn position(&self, place: usize) -> (usize, usize) {
        let before = &self.text[..place];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        (line, column)
    }
}

fn unexpected_end() -> String {
    "proto: unexpected EOF".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Result<String, String> {
        match Tokens::of(text.as_bytes()).next()?.kind {
            TokenKind::String(string) => Ok(string.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tokens_come_in_order_with_their_places() {
        let mut tokens = Tokens::of(b"{\"a\" : [1.5e3,\n true,null, false]}");
        let mut found = Vec::new();
        for _ in 0..9 {
            let token = tokens.next().unwrap();
            assert_eq!(
                token.raw,
                std::str::from_utf8(&tokens.text[token.place..][..token.raw.len()]).unwrap()
            );
            found.push(token.raw);
        }
        assert_eq!(found, ["{", "\"a\"", "[", "1.5e3", "true", "null", "false", "]", "}"]);
        assert_eq!(tokens.next().unwrap_err(), "proto: unexpected EOF");
    }

    #[test]
    fn a_value_is_skipped_whole() {
        for value in ["1", "\"x\"", "null", "{}", "[]", "{\"a\":[{\"b\":1},[]],\"c\":2}"] {
            let text = format!("{value},\"next\"");
            let mut tokens = Tokens::of(text.as_bytes());
            tokens.skip().unwrap();
            assert_eq!(tokens.peek(), Some(b'"'), "{value}");
            assert_eq!(tokens.next().unwrap().raw, "\"next\"", "{value}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        let check = |text, expected: &str| assert_eq!(string(text).as_deref(), Ok(expected), "{text}");
        check(r#""plain é""#, "plain é");
        check(r#""""#, "");
        check(r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t");
        check(r#""a\u00e9\u4e16b""#, "aé世b");
        check(r#""\ud83d\ude00""#, "😀");
    }

    #[test]
    fn what_the_grammar_lets_through_is_refused() {
        let check = |text: &[u8], expected: &str| {
            assert_eq!(Tokens::of(text).next().unwrap_err(), expected, "{text:?}");
        };
        check(b"\"\xff\"", "proto: syntax error (line 1:1): invalid UTF-8 in string");
        check(b"\"\\ud800\"", "proto: unexpected EOF");
        let half = "proto: syntax error (line 1:1): invalid escape code \"\\\\u0041\" in string";
        check(b"\"\\ud800\\u0041\"", half);
        check(b"\"\\udc00\\ud800x\"", &half.replace("0041", "d800"));
    }
}
