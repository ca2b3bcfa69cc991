//! `ETCD_*` variables: every flag has one, in capitals with `_` for `-`. An empty one counts as unset.

use std::collections::BTreeMap;

use super::ConfigError;
use super::command_line::CommandLine;
use super::draft::Draft;
use super::flags::Effect;
use super::table;
use super::values::Given;

/// Variables that are read elsewhere, or mean something to etcd alone.
const OTHERS: [&str; 3] = ["ETCD_CONFIG_FILE", "ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY"];

/// Puts the variables into the draft. Those that no flag has are warned of: most likely a slip.
///
/// # Errors
/// When a value cannot be read, or the flag is on the command line too.
pub(super) fn apply(
    environment: &BTreeMap<String, String>,
    command_line: &CommandLine,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    let ours = environment.iter().filter(|(name, value)| name.starts_with("ETCD_") && !value.is_empty());
    for (variable, value) in ours.filter(|(name, _)| !OTHERS.contains(&name.as_str())) {
        let flag = table::all().find(|flag| flag.variable() == *variable);
        let Some(flag) = flag.filter(|flag| !matches!(flag.effect, Effect::Control)) else {
            draft.warn(format!("unrecognized environment variable: {variable}={value}"));
            continue;
        };
        if command_line.has(flag.name) {
            // The stray parenthesis is etcd's; people search for this line.
            return Err(ConfigError::invalid(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either \
                 unset environment variable or disable flag)): {variable}"
            )));
        }
        draft.take(flag, Given::Text(value)).map_err(|error| {
            error.into_config_error(|what| {
                ConfigError::invalid(format!("invalid value {value:?} for {variable}: {what}"))
            })
        })?;
    }
    Ok(())
}
