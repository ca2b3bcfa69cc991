//! The seeds that ever failed, from the folder `sim/seeds`: see the README there.

#![expect(clippy::disallowed_methods, reason = "reads files of this machine")]

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::Scenario;
use crate::markers::MarkerName;
use crate::setup::{Profile, Setup};

/// The folder, as it was when this program was built.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds");

/// What a file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// What went wrong, and what guards against it.
    story: String,
    /// The run, written out; or ...
    setup: Option<Setup>,
    /// ... its seed ...
    seed: Option<u64>,
    /// ... and its profile.
    profile: Option<Profile>,
    /// What it must reach.
    #[serde(default)]
    reaches: Vec<MarkerName>,
}

/// All of them, by name of their file.
///
/// # Errors
/// Which file cannot be read, and why.
pub(super) fn all() -> Result<Vec<Scenario>, String> {
    let entries = fs::read_dir(FOLDER).map_err(|error| format!("cannot list {FOLDER}: {error}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot list {FOLDER}: {error}"))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Scenario, String> {
    let text =
        fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    parse(&name, &text).map_err(|reason| format!("{}: {reason}", file.display()))
}

fn parse(name: &str, text: &str) -> Result<Scenario, String> {
    let kept: Kept = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let setup = match (kept.setup, kept.seed, kept.profile) {
        (Some(setup), None, None) => setup,
        (None, Some(seed), Some(profile)) => Setup::draw(seed, profile),
        _ => return Err("it must hold either a setup, or a seed and its profile".into()),
    };
    let reaches = kept.reaches.into_iter().map(MarkerName::name).collect();
    Ok(Scenario { name: format!("seed-{name}"), story: kept.story, setup, tries: 1, reaches })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_setup_or_a_seed() {
        let seed = parse("x", r#"{"story": "s", "seed": 7, "profile": "watch"}"#).unwrap();
        assert_eq!(seed.setup, Setup::draw(7, Profile::Watch));
        let setup = serde_json::to_string(&seed.setup).unwrap();
        let whole = parse("x", &format!(r#"{{"story": "s", "setup": {setup}}}"#)).unwrap();
        assert_eq!(whole.setup, seed.setup);
        for wrong in [
            r#"{"story": "s"}"#,
            r#"{"story": "s", "seed": 7}"#,
            r#"{"seed": 7, "profile": "lite"}"#,
            r#"{"story": "s", "seed": 7, "profile": "lite", "more": 1}"#,
            r#"{"story": "s", "seed": 7, "profile": "lite", "reaches": ["nothing"]}"#,
        ] {
            assert!(parse("x", wrong).is_err(), "{wrong}");
        }
    }
}
