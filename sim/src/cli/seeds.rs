//! Ranges of seeds, as they are written on the command line.

use std::str::FromStr;

use crate::random::fnv;

/// Seeds from the first to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    first: u64,
    end: u64,
}

impl Seeds {
    /// All of them.
    pub fn all(&self) -> Vec<u64> {
        (self.first..self.end).collect()
    }

    /// As many seeds, from where a text says: a commit's hash gives each commit seeds of its own, which the
    /// hash alone gives again.
    pub fn shifted_by(&self, text: &str) -> Vec<u64> {
        let base = fnv(text.trim().as_bytes()) >> 16;
        self.all().into_iter().map(|seed| base + seed).collect()
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no range of seeds: write FIRST..END, such as 0..200, or one seed");
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
        let (first, end) = match text.split_once("..") {
            Some((first, end)) => (number(first)?, number(end)?),
            None => (number(text)?, number(text)? + 1),
        };
        if first >= end {
            return Err(format!("{text:?} is an empty range of seeds"));
        }
        Ok(Self { first, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_mistakes_named() {
        assert_eq!("3..5".parse::<Seeds>().unwrap().all(), [3, 4]);
        assert_eq!("7".parse::<Seeds>().unwrap().all(), [7]);
        for wrong in ["", "a..b", "5..5", "9..2", "1..", "-1..3"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
        let seeds: Seeds = "0..3".parse().unwrap();
        assert_eq!(seeds.shifted_by("abc"), seeds.shifted_by("abc\n"));
        assert_ne!(seeds.shifted_by("abc"), seeds.shifted_by("abd"));
    }
}
