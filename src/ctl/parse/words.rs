//! A line cut into words, almost as a shell does it.

use crate::ctl::golang::unquote_prefix;

/// Cuts a line into words. `"..."` holds Go's escapes, `'...'` holds anything, other words end at blanks
/// (quotes inside them are ordinary). A quote that is never closed is skipped.
///
/// # Errors
/// When a double-quoted word has a bad escape.
pub fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let tail = &rest[first.len_utf8()..];
        rest = match first {
            '"' => match double_quoted(tail) {
                Some(length) => {
                    let (quoted, rest) = rest.split_at(length + 2);
                    let (word, _) = unquote_prefix(quoted).ok_or("invalid syntax")?;
                    words.push(word);
                    rest
                }
                None => tail,
            },
            '\'' => match tail.split_once('\'') {
                Some((word, rest)) => {
                    words.push(word.as_bytes().to_vec());
                    rest
                }
                None => tail,
            },
            blank if is_blank(blank) => tail,
            _ => {
                let (word, rest) = rest.split_at(rest.find(is_blank).unwrap_or(rest.len()));
                words.push(word.as_bytes().to_vec());
                rest
            }
        };
    }
    Ok(words)
}

/// Bytes up to the closing quote, if there is one.
fn double_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices()
        .find(|(_, character)| match character {
            _ if escaped => {
                escaped = false;
                false
            }
            '\\' => {
                escaped = true;
                false
            }
            '"' => true,
            _ => false,
        })
        .map(|(at, _)| at)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let expected: Vec<Vec<u8>> = expected.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(words(line), Ok(expected), "{line}");
    }

    #[test]
    fn lines_are_cut_at_blanks_and_quotes() {
        check("", &[]);
        check("  put  a\tb ", &["put", "a", "b"]);
        check(r#"put a "hello world""#, &["put", "a", "hello world"]);
        check(r#"put "a\n\"b\"" 'c "d" \n'"#, &["put", "a\n\"b\"", "c \"d\" \\n"]);
        check(r#"get a"b"c d'e"#, &["get", "a\"b\"c", "d'e"]);
        check(r#""a"b 'c'd"#, &["a", "b", "c", "d"]);
        check(r#""" ''"#, &["", ""]);
        check(r#"put a "x"#, &["put", "a", "x"]);
        check("put a 'x y", &["put", "a", "x", "y"]);
        check("é 'ü ö'", &["é", "ü ö"]);
    }

    #[test]
    fn escapes_make_bytes() {
        assert_eq!(words(r#""\xff\x00""#), Ok(vec![vec![255, 0]]));
        assert_eq!(words(r#""\q""#), Err("invalid syntax".to_owned()));
    }
}
