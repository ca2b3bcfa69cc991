//! The head of a request of gRPC: what must be right in it before any service is asked, in the order and in
//! the words of gRPC for Go.

use std::borrow::Cow;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use tonic::Status;
use tonic::body::Body;

use super::deadline::{self, Deadline};
use super::request_body::Packing;

/// The content type of gRPC; a format may follow.
const GRPC: &str = "application/grpc";

/// How the compressed messages of a request are packed.
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Ends the names of headers whose values are bytes.
const BINARY: &str = "-bin";

/// Base64 as Go reads it, which does not mind bits that are left over at the end.
const fn base64(padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new();
    let config = config.with_decode_allow_trailing_bits(true).with_decode_padding_mode(padding);
    GeneralPurpose::new(&alphabet::STANDARD, config)
}

const PADDED: GeneralPurpose = base64(DecodePaddingMode::RequireCanonical);
const UNPADDED: GeneralPurpose = base64(DecodePaddingMode::RequireNone);

/// The answer to a request that no service is asked.
pub(super) struct Refusal {
    code: StatusCode,
    status: Status,
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = self.status.into_http();
        *response.status_mut() = self.code;
        response
    }
}

/// What the head of a request says about the call.
pub(super) struct CallHead {
    pub(super) deadline: Deadline,
    /// The content type of the answer, where it is not that of gRPC alone.
    pub(super) content_type: Option<HeaderValue>,
}

impl CallHead {
    /// Reads the head of `request`.
    ///
    /// # Errors
    /// For a request that is no call of gRPC.
    pub(super) fn read<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let content_type = answer_type(request.headers())?;
        let (mut deadline, mut malformed) = (Deadline::default(), None);
        // Of several that are malformed, the last is told.
        for (name, value) in request.headers() {
            let checked = match name.as_str() {
                deadline::HEADER => Deadline::from_header(value).map(|of_call| deadline = of_call),
                name if name.ends_with(BINARY) => check_binary(value).map_err(|reason| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    format!("malformed binary metadata {value:?} in header {name:?}: {reason}")
                }),
                _ => Ok(()),
            };
            malformed = checked.err().or(malformed);
        }
        if let Some(text) = malformed {
            return Err(Refusal { code: StatusCode::BAD_REQUEST, status: Status::internal(text) });
        }
        if request.method() != Method::POST {
            let method = request.method().as_str();
            let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
            return Err(Refusal { code: StatusCode::METHOD_NOT_ALLOWED, status: Status::internal(text) });
        }
        Ok(Self { deadline, content_type })
    }
}

/// The content type of the answer, if it has to be said: what the request says, with `+` before the format.
fn answer_type(headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    let asked = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if asked == GRPC.as_bytes() {
        return Ok(None);
    }
    let format = match asked.strip_prefix(GRPC.as_bytes()) {
        Some([b'+' | b';', format @ ..]) => format,
        _ => {
            let asked = String::from_utf8_lossy(asked);
            let text = format!("invalid gRPC request content-type {asked:?}");
            return Err(Refusal {
                code: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                status: Status::invalid_argument(text),
            });
        }
    };
    let answer = match format {
        [] => GRPC.into(),
        format => [GRPC.as_bytes(), b"+", format].concat(),
    };
    // It came in a header, so it fits into one.
    Ok(HeaderValue::from_maybe_shared(bytes::Bytes::from(answer)).ok())
}

/// How the messages of the call may be packed. They reach their service plain, so it is told of nothing.
///
/// # Errors
/// For a packing that is not known.
pub(super) fn packing(headers: &mut HeaderMap) -> Result<Packing, Refusal> {
    let Some(encoding) = headers.remove(ENCODING) else { return Ok(Packing::Plain) };
    match encoding.as_bytes() {
        b"" | b"identity" => Ok(Packing::Plain),
        b"gzip" => Ok(Packing::Gzip),
        other => {
            let other: Cow<'_, str> = String::from_utf8_lossy(other);
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {other:?}");
            Err(Refusal { code: StatusCode::OK, status: Status::unimplemented(text) })
        }
    }
}

/// Checks a value that must be base64, with padding or without it.
///
/// # Errors
/// In the words of Go.
pub fn check_binary(value: &HeaderValue) -> Result<(), String> {
    let value = value.as_bytes();
    let engine = if value.len().is_multiple_of(4) { PADDED } else { UNPADDED };
    let Err(error) = engine.decode(value) else { return Ok(()) };
    let byte = match error {
        DecodeError::InvalidByte(place, _) | DecodeError::InvalidLastSymbol(place, _) => place,
        // Of a last group of one character nothing can be made.
        DecodeError::InvalidLength(_) => value.len() - value.len() % 4,
        DecodeError::InvalidPadding => value.len(),
    };
    Err(format!("illegal base64 data at input byte {byte}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut Request<()>)) -> Result<CallHead, (StatusCode, String)> {
        let mut request =
            Request::post("/etcdserverpb.KV/Put").header("content-type", GRPC).body(()).unwrap();
        change(&mut request);
        CallHead::read(&request)
            .map_err(|Refusal { code, status }| (code, format!("{:?}: {}", status.code(), status.message())))
    }

    fn with(name: &'static str, value: &'static [u8]) -> Result<CallHead, (StatusCode, String)> {
        read(|request| {
            request.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
        })
    }

    fn refusal(name: &'static str, value: &'static [u8]) -> (u16, String) {
        let (code, text) = with(name, value).err().unwrap();
        (code.as_u16(), text)
    }

    #[test]
    fn the_answer_has_the_content_type_of_the_request() {
        let check = |asked: &'static str, answer: Option<&str>| {
            let head = with("content-type", asked.as_bytes()).unwrap();
            assert_eq!(head.content_type.as_ref().map(|value| value.to_str().unwrap()), answer, "{asked}");
        };
        check("application/grpc", None);
        check("application/grpc+proto", Some("application/grpc+proto"));
        check("application/grpc;charset=x", Some("application/grpc+charset=x"));
        check("application/grpc+", Some("application/grpc"));
    }

    #[test]
    fn what_is_no_call_is_refused_in_the_words_of_go() {
        let wrong_type =
            |asked: &str| (415, format!("InvalidArgument: invalid gRPC request content-type {asked:?}"));
        for asked in ["application/grpcx", "application/grpc-web", "Application/grpc", "application/json", ""]
        {
            assert_eq!(refusal("content-type", asked.as_bytes()), wrong_type(asked));
        }
        let (code, text) = read(|request| request.headers_mut().clear()).err().unwrap();
        assert_eq!((code.as_u16(), text), wrong_type(""));
        let (code, text) = read(|request| *request.method_mut() = Method::GET).err().unwrap();
        let get = "Internal: Received a HEADERS frame with :method \"GET\" which should be POST";
        assert_eq!((code.as_u16(), &text[..]), (405, get));
        let text = "Internal: malformed binary metadata \"!!!\" in header \"x-bin\": illegal base64 data at input byte 0";
        assert_eq!(refusal("x-bin", b"!!!"), (400, text.to_owned()));
        let text = "Internal: malformed grpc-timeout: transport: timeout string is too short: \"5\"";
        assert_eq!(refusal("grpc-timeout", b"5"), (400, text.to_owned()));
    }

    #[test]
    fn messages_are_plain_or_in_gzip() {
        let check = |value: &'static str, expected: Result<Packing, &str>| {
            let mut headers = HeaderMap::new();
            headers.insert(ENCODING, HeaderValue::from_static(value));
            let found = packing(&mut headers).map_err(|refusal| refusal.status.message().to_owned());
            assert_eq!(found.as_ref().map_err(|text| &text[..]).copied(), expected);
            assert!(headers.is_empty());
        };
        check("", Ok(Packing::Plain));
        check("identity", Ok(Packing::Plain));
        check("gzip", Ok(Packing::Gzip));
        check("snappy", Err("grpc: Decompressor is not installed for grpc-encoding \"snappy\""));
    }

    #[test]
    fn bytes_travel_in_base64() {
        let check = |value: &'static [u8], expected: Result<(), &str>| {
            let found = check_binary(&HeaderValue::from_bytes(value).unwrap());
            assert_eq!(found.as_ref().map_err(|text| &text[..]).copied(), expected);
        };
        for good in [&b""[..], b"Zm9v", b"Zm8", b"Zm8=", b"Zh"] {
            check(good, Ok(()));
        }
        check(b"!!!", Err("illegal base64 data at input byte 0"));
        check(b"Zm9v!", Err("illegal base64 data at input byte 4"));
        check(b"Z", Err("illegal base64 data at input byte 0"));
        check(b"Zm9vZ", Err("illegal base64 data at input byte 4"));
    }
}
