//! Strings in double quotes, as `%q` writes and reads them. Go's strings are bytes, so these are too.

use std::fmt::Write;

/// `bytes` in double quotes, with what is not printable UTF-8 escaped.
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push_escaped(&mut text, character));
        for byte in chunk.invalid() {
            push(&mut text, format_args!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

fn push_escaped(text: &mut String, character: char) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        '\x0c' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\x0b' => text.push_str("\\v"),
        _ if is_printable(character) => text.push(character),
        _ => match u32::from(character) {
            code @ 0..0x80 => push(text, format_args!("\\x{code:02x}")),
            code @ 0x80..0x1_0000 => push(text, format_args!("\\u{code:04x}")),
            code => push(text, format_args!("\\U{code:08x}")),
        },
    }
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a String takes everything");
}

/// Whether Go prints the character as it is. Rust's `escape_debug` follows the same categories of
/// characters, in the compiler's release of Unicode, but escapes combining marks at the start of a string
/// too; hence the letter in front.
fn is_printable(character: char) -> bool {
    let mut text = String::from("a");
    text.push(character);
    text.escape_debug().eq(text.chars()) || character == '\''
}

/// Reads a quoted string at the start of `text`; gives its bytes and what follows it.
///
/// Double quotes hold escapes, back quotes hold anything but a back quote. `None` when `text` does not
/// begin with a well-formed one.
pub fn unquote_prefix(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (inside, rest) = raw.split_once('`')?;
        return Some((inside.replace('\r', "").into_bytes(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    loop {
        let character = rest.chars().next()?;
        rest = &rest[character.len_utf8()..];
        match character {
            '"' => return Some((bytes, rest)),
            '\n' => return None,
            '\\' => rest = unescape(rest, &mut bytes)?,
            _ => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Reads what follows a backslash; gives the rest.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = *text.as_bytes().first()?;
    let simple = match kind {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'"' => kind,
        b'x' => return number(&text[1..], 2, 16, |code| push_byte(bytes, code)),
        b'0'..=b'7' => return number(text, 3, 8, |code| push_byte(bytes, code)),
        b'u' | b'U' => {
            let digits = if kind == b'u' { 4 } else { 8 };
            return number(&text[1..], digits, 16, |code| {
                let character = char::from_u32(code)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                Some(())
            });
        }
        _ => return None,
    };
    bytes.push(simple);
    Some(&text[1..])
}

fn push_byte(bytes: &mut Vec<u8>, code: u32) -> Option<()> {
    bytes.push(u8::try_from(code).ok()?);
    Some(())
}

/// Reads exactly `digits` digits, hands their value to `take`, gives the rest.
fn number(text: &str, digits: usize, base: u32, mut take: impl FnMut(u32) -> Option<()>) -> Option<&str> {
    let digits = text.get(..digits).filter(|digits| !digits.starts_with('+'))?;
    take(u32::from_str_radix(digits, base).ok()?)?;
    Some(&text[digits.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprintable_is_escaped() {
        for (bytes, text) in [
            (&b""[..], r#""""#),
            (b"a'b", r#""a'b""#),
            ("b\"\x01\n\t\\é\u{2028}😀<&>".as_bytes(), r#""b\"\x01\n\t\\é\u2028😀<&>""#),
            (b"k\x7f", r#""k\x7f""#),
            (b"x\xffy\x00", r#""x\xffy\x00""#),
            (b"\x07\x08\x0b\x0c\r", r#""\a\b\v\f\r""#),
            (
                "\u{a0}\u{ad}\u{301}\u{e000}\u{10ffff}".as_bytes(),
                "\"\\u00a0\\u00ad\u{301}\\ue000\\U0010ffff\"",
            ),
            ("\u{85}".as_bytes(), r#""\u0085""#),
        ] {
            assert_eq!(quote(bytes), text);
        }
    }

    #[test]
    fn quoted_strings_are_read_back() {
        for bytes in [&b""[..], b"a\"b\\", b"\x00\xff\x07", "é\u{2028}😀\u{10ffff}".as_bytes()] {
            assert_eq!(unquote_prefix(&quote(bytes)), Some((bytes.to_vec(), "")));
        }
        assert_eq!(unquote_prefix(r#""a\x62\143\u0064" rest"#), Some((b"abcd".to_vec(), " rest")));
        assert_eq!(unquote_prefix(r"`a\n` x"), Some((br"a\n".to_vec(), " x")));
        for bad in
            ["a", "\"a", r#""\q""#, r#""\x6""#, r#""\400""#, r#""\ud800""#, "`a", "\"a\nb\"", r#""\x+1""#]
        {
            assert_eq!(unquote_prefix(bad), None, "{bad}");
        }
    }
}
