//! Production's half of rare behaviour: there is none. Its twin is `rare_sim.rs`.

/// Whether something rare but legal happens now at this site; see the head of [`crate::rt`].
#[inline(always)]
pub const fn buggify(_site: &'static str) -> bool {
    false
}

/// Waits a while at this site if something rare happens there.
#[inline(always)]
pub async fn dawdle(_site: &'static str) {}
