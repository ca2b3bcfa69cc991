//! Headers of HTTP that concern the call: its time, its token, and whatever a client of gRPC would have sent
//! as metadata.
//!
//! Other headers go no further. grpc-gateway passes the usual ones on as `grpcgateway-<name>`, which nothing
//! in the server reads.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

use crate::rpc;

/// What the name of a header begins with whose rest is a name of metadata.
const PREFIX: &str = "grpc-metadata-";

const TIMEOUT: &str = "grpc-timeout";

/// Digits of a timeout in gRPC.
const MOST_UNITS: u128 = 99_999_999;

/// Names that belong to the call itself.
const RESERVED: &[&str] = &["connection", "content-type", "host", "te", "transfer-encoding", "user-agent"];

/// The metadata of the call that a request with `headers` becomes.
///
/// # Errors
/// For a time or a binary value that is none, in the words of grpc-gateway.
pub(super) fn of(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    if let Some(timeout) = headers.get(TIMEOUT).filter(|timeout| !timeout.is_empty())
        && let Some(timeout) = translate(timeout)?
    {
        metadata.insert(TIMEOUT, timeout);
    }
    for (name, value) in headers {
        if name == AUTHORIZATION {
            metadata.append(AUTHORIZATION, value.clone());
        }
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        if name.is_empty() {
            return Err(Status::internal("there is an empty key in the header"));
        }
        if name.ends_with("-bin") {
            check_binary(name, value)?;
        }
        let allowed = !RESERVED.contains(&name) && !name.starts_with("grpc-");
        let printable = value.as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7e));
        if let Ok(name) = HeaderName::try_from(name)
            && allowed
            && printable
        {
            metadata.append(name, value.clone());
        }
    }
    Ok(metadata)
}

/// The timeout of grpc-gateway, any number of units, as gRPC has it, with eight digits; none for none.
fn translate(timeout: &HeaderValue) -> Result<Option<HeaderValue>, Status> {
    const NANOSECONDS: [(&str, u128); 6] = [
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("S", 1_000_000_000),
        ("M", 60 * 1_000_000_000),
        ("H", 3600 * 1_000_000_000),
    ];
    let text = String::from_utf8_lossy(timeout.as_bytes());
    let invalid = || Status::invalid_argument(format!("invalid grpc-timeout: {text}"));
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(invalid)?;
    let (_, unit) = NANOSECONDS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
    let number: i64 = number.parse().map_err(|_| invalid())?;
    if number == 0 {
        return Ok(None);
    }
    // What lies in the past is over at once.
    let nanoseconds = u128::try_from(number).unwrap_or(0) * unit;
    let fitting = NANOSECONDS.iter().find(|(_, unit)| nanoseconds.div_ceil(*unit) <= MOST_UNITS);
    let (unit, units) =
        fitting.map_or(("H", MOST_UNITS), |(name, unit)| (*name, nanoseconds.div_ceil(*unit)));
    HeaderValue::try_from(format!("{units}{unit}")).map(Some).map_err(|_| invalid())
}

/// Binary metadata travels in base64, as it does in gRPC itself.
fn check_binary(name: &str, value: &HeaderValue) -> Result<(), Status> {
    rpc::check_binary(value).map_err(|reason| {
        let name = canonical(&[PREFIX, name].concat());
        Status::invalid_argument(format!("invalid binary header {name}: {reason}"))
    })
}

/// The name of a header as Go writes it: each word with a capital.
fn canonical(name: &str) -> String {
    let mut begins = true;
    let letter = |letter: char| {
        let capital = std::mem::replace(&mut begins, letter == '-');
        if capital { letter.to_ascii_uppercase() } else { letter }
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(headers: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let metadata = of(&map).map_err(|status| status.message().to_owned())?;
        let shown =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        Ok(metadata.iter().map(shown).collect())
    }

    #[test]
    fn what_concerns_the_call_goes_with_it() {
        let check = |name: &str, value: &str, expected: &[&str]| {
            assert_eq!(metadata(&[(name, value)]).unwrap(), expected, "{name}: {value}");
        };
        check("Authorization", "Bearer x", &["authorization: Bearer x"]);
        check("Grpc-Metadata-Hasleader", "true", &["hasleader: true"]);
        check("Grpc-Metadata-Client-Api-Version", "3.5", &["client-api-version: 3.5"]);
        check("Grpc-Metadata-A-Bin", "aGk", &["a-bin: aGk"]);
        for ignored in
            ["Content-Type", "Accept", "Hasleader", "Grpc-Metadata-Grpc-Timeout", "Grpc-Metadata-Te"]
        {
            check(ignored, "1n", &[]);
        }
        let mut map = HeaderMap::new();
        map.append("grpc-metadata-client-api-version", HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(of(&map).unwrap().is_empty());
    }

    #[test]
    fn a_timeout_is_translated() {
        let check = |value: &str, expected: Option<&str>| {
            let expected: Vec<String> =
                expected.map(|value| format!("grpc-timeout: {value}")).into_iter().collect();
            assert_eq!(metadata(&[("Grpc-Timeout", value)]).unwrap(), expected, "{value}");
        };
        check("500m", Some("500000u"));
        check("5S", Some("5000000u"));
        check("1n", Some("1n"));
        check("999999999999S", Some("99999999H"));
        check("100000000H", Some("99999999H"));
        check("99999999M", Some("99999999M"));
        check("-5S", Some("0n"));
        check("0S", None);
        check("", None);
        for value in ["5", "S", "5x", "x5S", "5.5S", "é"] {
            let error = metadata(&[("Grpc-Timeout", value)]).unwrap_err();
            assert_eq!(error, format!("invalid grpc-timeout: {value}"));
        }
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        let check = |name: &str, value: &str, expected: &str| {
            assert_eq!(metadata(&[(name, value)]).unwrap_err(), expected);
        };
        check("Grpc-Metadata-", "x", "there is an empty key in the header");
        check(
            "Grpc-Metadata-Foo-Bin",
            "!!!",
            "invalid binary header Grpc-Metadata-Foo-Bin: illegal base64 data at input byte 0",
        );
    }
}
