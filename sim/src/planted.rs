//! placeholder
use crate::setup::Profile;
pub struct Planted {
    pub name: &'static str,
    pub what: &'static str,
    pub profiles: &'static [Profile],
}
pub fn arm(name: &str) -> Result<(), String> {
    Err(format!("there is no planted bug {name:?}"))
}
pub fn list() -> Vec<Planted> {
    Vec::new()
}
