//! A condition of a transaction: `target("key") operator "value"`.

use crate::ctl::golang::{parse_int, quote, unquote_prefix};
use crate::proto::etcdserverpb::Compare;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// Reads a condition. Targets are `version`/`ver`, `create`/`c`, `mod`/`m`, `value`/`val` and `lease`
/// (in hexadecimal); operators `=`, `!=`, `<` and `>`.
///
/// # Errors
/// What is wrong, with the line.
pub fn compare(line: &str) -> Result<Compare, String> {
    let Some((target, rest)) = line.split_once('(') else {
        return Err(format!("malformed comparison: {line}"));
    };
    let parts = Parts::read(rest);
    let Some(value) = parts.value else {
        let (key, operator) = (quote(&parts.key), parts.operator);
        return Err(format!("malformed comparison: {line}; got {target}({key}) {operator} \"\""));
    };
    let number = |base| {
        let text = String::from_utf8_lossy(&value);
        parse_int(&text, base).map_err(|_| format!("invalid txn compare request: {line}"))
    };
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        _ => return Err(format!("malformed comparison: {line} (unknown target {target})")),
    };
    let result = match parts.operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => return Err(format!("malformed comparison: {line} (unknown operator {other})")),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: parts.key.into(),
        range_end: Default::default(),
        target_union: Some(union),
    })
}

/// What follows the opening parenthesis, as far as it could be read.
#[derive(Default)]
struct Parts<'a> {
    key: Vec<u8>,
    operator: &'a str,
    value: Option<Vec<u8>>,
}

impl<'a> Parts<'a> {
    /// Blanks may stand anywhere but before the closing parenthesis, and must stand behind the operator.
    fn read(text: &'a str) -> Self {
        let mut parts = Self::default();
        let Some((key, rest)) = unquote_prefix(text.trim_start()) else { return parts };
        parts.key = key;
        let Some(rest) = rest.strip_prefix(')') else { return parts };
        let rest = rest.trim_start();
        let (operator, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        parts.operator = operator;
        parts.value = unquote_prefix(rest.trim_start()).map(|(value, _)| value);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, target: CompareTarget, result: CompareResult, union: TargetUnion) {
        let expected = Compare {
            result: result.into(),
            target: target.into(),
            key: "k".into(),
            range_end: Default::default(),
            target_union: Some(union),
        };
        assert_eq!(compare(line), Ok(expected), "{line}");
    }

    #[test]
    fn conditions_are_read() {
        use {CompareResult as Is, CompareTarget as Of};
        for line in [r#"mod("k") > "5""#, r#"m("k")> "5""#, r#"mod( "k")  >   "5" junk"#, "mod(`k`) > `5`"] {
            check(line, Of::Mod, Is::Greater, TargetUnion::ModRevision(5));
        }
        check(r#"ver("k") = "0""#, Of::Version, Is::Equal, TargetUnion::Version(0));
        check(r#"c("\x6b") < "-1""#, Of::Create, Is::Less, TargetUnion::CreateRevision(-1));
        check(r#"value("k") != "a b""#, Of::Value, Is::NotEqual, TargetUnion::Value("a b".into()));
        check(r#"lease("k") = "7b""#, Of::Lease, Is::Equal, TargetUnion::Lease(0x7b));
    }

    #[test]
    fn malformed_conditions_are_refused() {
        for (line, error) in [
            ("foo", "malformed comparison: foo"),
            (r#"mod("a) > "x""#, r#"malformed comparison: mod("a) > "x"; got mod("a) > ")  """#),
            (r#"mod(a) > "x""#, r#"malformed comparison: mod(a) > "x"; got mod("")  """#),
            (r#"mod("a")>"1""#, r#"malformed comparison: mod("a")>"1"; got mod("a") >"1" """#),
            (r#"mod("a") > "x""#, r#"invalid txn compare request: mod("a") > "x""#),
            (r#"foo("a") > "1""#, r#"malformed comparison: foo("a") > "1" (unknown target foo)"#),
            (r#"mod("a") ? "1""#, r#"malformed comparison: mod("a") ? "1" (unknown operator ?)"#),
        ] {
            assert_eq!(compare(line).unwrap_err(), error);
        }
    }
}
