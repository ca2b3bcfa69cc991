//! The bugs that can be planted in the server, for the command line: `cargo sim planted` arms one after
//! another, each in processes of its own, and looks which claim finds it.
//!
//! What they are and where they stand is in `detcd::planted`. A build without the feature `planted` can
//! list them and not arm them.

use detcd::planted::Bug;

/// The bug of this name.
///
/// # Errors
/// A sentence when there is none, with the names that come nearest.
pub fn find(name: &str) -> Result<Bug, String> {
    if let Some(bug) = Bug::ALL.iter().find(|bug| bug.name() == name) {
        return Ok(*bug);
    }
    let words: Vec<&str> = name.split('-').filter(|word| word.len() > 2).collect();
    let near: Vec<&str> = Bug::ALL
        .iter()
        .map(|bug| bug.name())
        .filter(|other| words.iter().any(|word| other.contains(word)))
        .collect();
    let hint = if near.is_empty() { String::new() } else { format!("; there are {}", near.join(", ")) };
    Err(format!("no bug is called {name}{hint}"))
}

/// The bugs that can show in a run: those that wait for nothing.
pub fn due() -> impl Iterator<Item = Bug> {
    Bug::ALL.iter().copied().filter(|bug| bug.waits_for().is_none())
}

/// Switches a bug on for the rest of this process, before its first run.
///
/// # Errors
/// A sentence when this build has no bugs in it.
pub fn arm(bug: Bug) -> Result<(), String> {
    #[cfg(feature = "planted")]
    {
        detcd::planted::arm(bug);
        Ok(())
    }
    #[cfg(not(feature = "planted"))]
    Err(format!("{} cannot be armed: this build has no planted bugs (feature `planted`)", bug.name()))
}

/// The names of the claims that should find a bug, the likeliest first.
pub fn claims(bug: Bug) -> Vec<&'static str> {
    bug.claims().iter().map(|claim| claim.name()).collect()
}

/// The list of all bugs, for people: name, what is wrong, who should find it, what it waits for.
pub fn list() -> String {
    let line = |bug: &Bug| {
        let waits = bug.waits_for().map(|what| format!(" (waits for {what})")).unwrap_or_default();
        format!("{:<36} {} [{}]{waits}\n", bug.name(), bug.wrong(), claims(*bug).join(", "))
    };
    Bug::ALL.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_found_by_name_or_nearly() {
        assert_eq!(find("wal-without-sync"), Ok(Bug::WalWithoutSync));
        assert!(find("sync").is_err_and(|error| error.contains("wal-without-sync")));
        assert_eq!(find("x").unwrap_err(), "no bug is called x");
    }

    #[test]
    fn the_list_has_a_line_for_each_bug() {
        assert_eq!(list().lines().count(), Bug::ALL.len());
        assert!(due().count() >= 30 && due().count() < Bug::ALL.len());
    }
}
