//! The configuration file: YAML, of which JSON is a part. Its keys are the names of the flags, except
//! that some stand in groups. Durations are whole nanoseconds there.

use std::path::Path;

use serde_norway::{Mapping, Value as Yaml};

use super::ConfigError;
use super::draft::Draft;
use super::flags::Effect;
use super::table;
use super::values::{Given, ValueError};

/// Groups of keys: the path of the group, and what stands in front of its keys to make a flag's name.
const GROUPS: [(&str, &str); 6] = [
    ("client-transport-security", ""),
    ("peer-transport-security", "peer-"),
    ("socket-options", "socket-"),
    ("discovery-config", "discovery-"),
    ("discovery-config.client", "discovery-"),
    ("discovery-config.client.secure", "discovery-"),
];

/// Keys of a group that are not the flag's name without its prefix.
const RENAMED: [(&str, &str); 7] = [
    ("client-transport-security.allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security.allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security.allowed-cns", "peer-cert-allowed-cn"),
    ("peer-transport-security.allowed-hostname", "peer-cert-allowed-hostname"),
    ("peer-transport-security.allowed-hostnames", "peer-cert-allowed-hostname"),
    ("discovery-config.client.auth.username", "discovery-user"),
    ("discovery-config.client.auth.password", "discovery-password"),
];

/// Reads a file into the draft.
///
/// # Errors
/// When it cannot be read, is no YAML, or a key has a value of the wrong kind; the sentence names both.
#[expect(clippy::disallowed_methods, reason = "the operator's file, read before there is a member")]
pub(super) fn read(path: &Path, draft: &mut Draft) -> Result<(), ConfigError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::invalid(format!("configuration file {shown}: {error}")))?;
    read_text(&text, draft)
        .map_err(|error| ConfigError::invalid(format!("configuration file {shown}: {error}")))
}

/// As [`read`], from the file's text.
pub(super) fn read_text(text: &str, draft: &mut Draft) -> Result<(), String> {
    match serde_norway::from_str(text).map_err(|error| error.to_string())? {
        Yaml::Null => Ok(()),
        Yaml::Mapping(mapping) => read_mapping("", &mapping, draft),
        _ => Err("must be a mapping of names to values".to_owned()),
    }
}

/// Reads the keys of a group; the whole file is the group without a path.
fn read_mapping(group: &str, mapping: &Mapping, draft: &mut Draft) -> Result<(), String> {
    for (key, value) in mapping {
        let key = key.as_str().ok_or("every key must be a text")?;
        let path = if group.is_empty() { key.to_owned() } else { format!("{group}.{key}") };
        match value {
            Yaml::Mapping(inner) if is_group(&path) => read_mapping(&path, inner, draft)?,
            // A key without a value, which templates tend to leave behind.
            Yaml::Null => {}
            value => read_value(group, key, &path, value, draft)?,
        }
    }
    Ok(())
}

fn is_group(path: &str) -> bool {
    path == "discovery-config.client.auth" || GROUPS.iter().any(|(group, _)| *group == path)
}

fn read_value(group: &str, key: &str, path: &str, value: &Yaml, draft: &mut Draft) -> Result<(), String> {
    let renamed = RENAMED.iter().find(|(from, _)| *from == path).map(|(_, to)| (*to).to_owned());
    let name = renamed.unwrap_or_else(|| {
        let prefix = GROUPS.iter().find(|(known, _)| *known == group).map_or("", |(_, prefix)| prefix);
        format!("{prefix}{key}")
    });
    let flag = table::find(&name).filter(|flag| !matches!(flag.effect, Effect::Control));
    let Some(flag) = flag else {
        draft.warn(format!("unrecognized key in the configuration file: {path}"));
        return Ok(());
    };
    draft.take(flag, Given::File(value)).map_err(|error| match error {
        ValueError::Unreadable(what) => format!("{path}: {what}"),
        ValueError::Invalid(sentence) => sentence,
    })
}
