//! The query of a URL, read as Go's `url.ParseQuery` reads it, and the escapes of URLs.

/// The parameters of a query, in order.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads what follows the `?`. A pair that is not well formed is left out, as in Go.
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        let pairs = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name, Plus::IsBlank)?, unescape(value, Plus::IsBlank)?))
        });
        Self { pairs: pairs.collect() }
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What a `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    IsPlus,
    /// In a query.
    IsBlank,
}

/// Undoes `%XX`; none when a `%` is not followed by two hex digits.
pub(super) fn unescape(text: &str, plus: Plus) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' if plus == Plus::IsBlank => b' ',
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_broken_ones_left_out() {
        let check = |query: &str, expected: &[(&str, &str)]| {
            let pairs = Query::parse(query).pairs;
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(pairs, expected, "{query}");
        };
        check("", &[]);
        check("verbose", &[("verbose", "")]);
        check("exclude=a&&exclude=b=c", &[("exclude", "a"), ("exclude", "b=c")]);
        check("a=%4e%4F+x", &[("a", "NO x")]);
        check("a=%4&b=%zz&c;d=1&e=1", &[("e", "1")]);
    }
}
