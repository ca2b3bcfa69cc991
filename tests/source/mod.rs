//! Reads the project's own sources for the tests that check them: which files there are, and their code
//! without comments, strings and tests.
//!
//! It knows as much of Rust as that takes and no more. A source that it misreads makes a test fail, it
//! does not make one pass: what is not recognised as a comment, a string or a test is taken for code.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "each test uses its part of this; sources are files"
)]

use std::path::{Path, PathBuf};

/// A source file.
pub struct Source {
    /// Its path below the project's root, with `/`.
    pub path: String,
    /// Its text as it is.
    pub text: String,
}

/// The root of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// One file, by its path below the root.
pub fn file(path: &str) -> Source {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path: path.to_owned(), text }
}

/// All files below `folder` whose names end with `suffix`, by path.
pub fn files(folder: &str, suffix: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), suffix, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, suffix: &str, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder of the project can be listed").path();
        if path.is_dir() {
            collect(&path, suffix, found);
        } else if path.to_string_lossy().ends_with(suffix) {
            let below = path.strip_prefix(root()).expect("below the root");
            let text = std::fs::read_to_string(&path).expect("a source is text");
            found.push(Source { path: below.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

/// Whether a whole file is test code, by its name.
pub fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.contains("/tests/") || name == "tests.rs" || name.ends_with("_tests.rs") || name == "testing.rs"
}

/// What of a source to make blank. Blank characters are spaces, so lines and columns stay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Blank {
    /// Strings.
    Strings,
    /// Strings and comments.
    StringsAndComments,
}

/// The text with strings, and comments if wanted, made blank.
pub fn blank(text: &str, what: Blank) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        let token = &chars[at..end];
        let is_comment = token.len() > 1 && token[0] == '/' && matches!(token[1], '/' | '*');
        let is_text = token.len() > 1 && token.last().is_some_and(|c| matches!(c, '"' | '\'' | '#'));
        let hide = if is_comment { what == Blank::StringsAndComments } else { is_text };
        out.extend(token.iter().map(|&c| if hide && c != '\n' { ' ' } else { c }));
        at = end;
    }
    out
}

/// Where the comment, string, word or single character that begins at `at` ends.
fn token_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => find(chars, at, |c| c == '\n'),
        '/' if next == Some('*') => block_comment_end(chars, at),
        '"' => string_end(chars, at),
        '\'' => char_end(chars, at),
        'r' | 'b' | 'c' if literal_prefix(chars, at).is_some() => {
            let quote = literal_prefix(chars, at).unwrap_or(at);
            let hashes = chars[at..quote].iter().filter(|&&c| c == '#').count();
            match (chars[quote], chars[at..quote].contains(&'r')) {
                ('\'', _) => char_end(chars, quote),
                (_, true) => raw_string_end(chars, quote, hashes),
                (_, false) => string_end(chars, quote),
            }
        }
        c if is_word(c) => find(chars, at, |c| !is_word(c)),
        _ => at + 1,
    }
}

/// The quote of a literal with a prefix, such as `br#"`.
fn literal_prefix(chars: &[char], at: usize) -> Option<usize> {
    let mut quote = at;
    while quote < at + 2 && matches!(chars.get(quote), Some('r' | 'b' | 'c')) {
        quote += 1;
    }
    let raw = chars[at..quote].contains(&'r');
    while raw && chars.get(quote) == Some(&'#') {
        quote += 1;
    }
    match chars.get(quote) {
        Some('"') => Some(quote),
        Some('\'') if !raw => Some(quote),
        _ => None,
    }
}

fn find(chars: &[char], from: usize, end: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| end(chars[at])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], quote: usize, hashes: usize) -> usize {
    let closes = |at: &usize| chars[*at] == '"' && (1..=hashes).all(|n| chars.get(at + n) == Some(&'#'));
    (quote + 1..chars.len()).find(closes).map_or(chars.len(), |at| at + 1 + hashes)
}

/// The end of a character, or of the quote alone when it begins a lifetime.
fn char_end(chars: &[char], quote: usize) -> usize {
    match (chars.get(quote + 1), chars.get(quote + 2)) {
        (Some('\\'), _) => (find(chars, quote + 3, |c| c == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => quote + 3,
        _ => quote + 1,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A word or a sign of the code, and the line that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The word, `::`, or one character.
    pub text: String,
    /// The line, from 1.
    pub line: usize,
}

/// The code of a source as tokens: no comments, no strings, and nothing that is built for tests only.
pub fn code(text: &str) -> Vec<Token> {
    let chars: Vec<char> = blank(text, Blank::StringsAndComments).chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = match chars[at] {
            ':' if chars.get(at + 1) == Some(&':') => at + 2,
            c if is_word(c) => find(&chars, at, |c| !is_word(c)),
            _ => at + 1,
        };
        if !chars[at].is_whitespace() {
            tokens.push(Token { text: chars[at..end].iter().collect(), line });
        }
        line += usize::from(chars[at] == '\n');
        at = end;
    }
    without_tests(&tokens)
}

/// Leaves out what follows a `cfg` attribute that needs `test`: one item, with its other attributes.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !is_attribute(tokens, at) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = bracket_end(tokens, at + 1);
        let attribute = &tokens[at..end];
        if attribute[2].text == "cfg" && needs_test(attribute) {
            at = item_end(tokens, end);
        } else {
            kept.extend_from_slice(attribute);
            at = end;
        }
    }
    kept
}

fn is_attribute(tokens: &[Token], at: usize) -> bool {
    tokens[at].text == "#" && tokens.get(at + 1).is_some_and(|token| token.text == "[")
}

/// `cfg(test)` and `cfg(all(test, ...))`, but not `cfg(any(test, ...))` or `cfg(not(test))`.
fn needs_test(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().map(|token| token.text.as_str()).collect();
    words.starts_with(&["#", "[", "cfg", "(", "test", ")"])
        || words.starts_with(&["#", "[", "cfg", "(", "all", "(", "test", ","])
}

/// Behind the bracket that closes the one at `open`.
fn bracket_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Behind an item: its first braces outside of other brackets, or its semicolon.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut at = from;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => return bracket_end(tokens, at),
            ";" | "," => return at + 1,
            "(" | "[" => at = bracket_end(tokens, at),
            "}" => return at,
            _ => at += 1,
        }
    }
    tokens.len()
}

/// Every path that the tokens name, `use` trees spelled out, and the line that it is on.
pub fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text.chars().all(is_word) {
            at = read_path(tokens, at, &mut Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path behind `prefix`, group and all, and returns where it ends.
fn read_path(
    tokens: &[Token],
    from: usize,
    prefix: &mut Vec<String>,
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token: &Token| token.text == text);
    let depth = prefix.len();
    let mut at = from;
    let end = loop {
        if is(at, "{") {
            at += 1;
            while at < tokens.len() && !is(at, "}") {
                at = if is(at, ",") { at + 1 } else { read_path(tokens, at, prefix, found) };
            }
            break at + 1;
        }
        prefix.push(tokens[at].text.clone());
        let goes_on = tokens
            .get(at + 2)
            .is_some_and(|token| token.text == "{" || token.text == "*" || token.text.chars().all(is_word));
        if !(is(at + 1, "::") && goes_on) {
            found.push((tokens[at].line, prefix.clone()));
            break at + 1;
        }
        at += 2;
    };
    prefix.truncate(depth);
    end
}
