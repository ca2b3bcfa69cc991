//! The rare paths that a batch of runs must reach, or it proves little.
//!
//! A marker is set where the path is (`Trace::mark`), counted over the batch, and named here with the
//! profiles whose batches owe it.

use crate::setup::Profile;

/// The markers that a batch of at least some hundred seeds of this profile must reach.
pub fn expected(profile: Profile) -> Vec<&'static str> {
    let cluster = ["leader changed with an uncommitted tail", "tail overwritten"];
    match profile {
        Profile::Storage => Vec::new(),
        Profile::Lite | Profile::Watch | Profile::Lease | Profile::Full => cluster.to_vec(),
    }
}
