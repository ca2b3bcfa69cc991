//! The bugs that can be planted in the server, for the command line: `cargo sim planted` arms one after
//! another, each in processes of its own, and looks which claim finds it.
//!
//! What they are and where they stand is in `detcd::planted`. A build without the feature `planted` can
//! list them and not arm them.

use detcd::planted::{Bug, Claim};

use crate::setup::Profile;

/// A bug that can show in a run.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is wrong, in one sentence.
    pub what: &'static str,
    /// The profiles in which it should show, the likeliest first.
    pub profiles: &'static [Profile],
    /// The claims of which one should find it, the likeliest first.
    pub claims: &'static [Claim],
}

/// Every bug that can show in a run: those that wait for nothing.
pub fn list() -> Vec<Planted> {
    let due = Bug::ALL.iter().filter(|bug| bug.waits_for().is_none());
    due.map(|bug| Planted {
        name: bug.name(),
        what: bug.wrong(),
        profiles: profiles(*bug),
        claims: bug.claims(),
    })
    .collect()
}

/// The bugs that cannot show yet, each with what it waits for.
pub fn waiting() -> Vec<(&'static str, &'static str)> {
    Bug::ALL.iter().filter_map(|bug| Some((bug.name(), bug.waits_for()?))).collect()
}

/// Switches the bug of this name on for the rest of this process, before its first run.
///
/// # Errors
/// A sentence when there is no such bug, with the names that come nearest, or when this build has none.
pub fn arm(name: &str) -> Result<(), String> {
    let bug = find(name)?;
    #[cfg(feature = "planted")]
    {
        detcd::planted::arm(bug);
        Ok(())
    }
    #[cfg(not(feature = "planted"))]
    Err(format!("{} cannot be armed: this build has no planted bugs (feature `planted`)", bug.name()))
}

fn find(name: &str) -> Result<Bug, String> {
    if let Some(bug) = Bug::ALL.iter().find(|bug| bug.name() == name) {
        return Ok(*bug);
    }
    let words: Vec<&str> = name.split('-').filter(|word| word.len() > 2).collect();
    let names = Bug::ALL.iter().map(|bug| bug.name());
    let near: Vec<&str> = names.filter(|other| words.iter().any(|word| other.contains(word))).collect();
    let hint = if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) };
    Err(format!("there is no planted bug {name:?}{hint}"))
}

/// Where a bug should show first: by the claim that should find it.
fn profiles(bug: Bug) -> &'static [Profile] {
    match bug.claims()[0] {
        Claim::Watch | Claim::WatchCaughtUp => &[Profile::Watch, Profile::Lite],
        Claim::Lease | Claim::Lock | Claim::Election | Claim::Observe => &[Profile::Lease, Profile::Lite],
        Claim::WalRecovery => &[Profile::Storage, Profile::Lite],
        _ => &[Profile::Lite, Profile::Full],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_found_by_name_or_nearly() {
        assert_eq!(find("wal-without-sync"), Ok(Bug::WalWithoutSync));
        assert!(find("sync").is_err_and(|error| error.contains("wal-without-sync")));
        assert_eq!(find("x").unwrap_err(), "there is no planted bug \"x\"");
    }

    #[test]
    fn every_bug_is_listed_or_waits() {
        assert_eq!(list().len() + waiting().len(), Bug::ALL.len());
        assert!(list().len() > 50 && waiting().len() < 5);
    }
}
