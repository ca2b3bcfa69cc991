//! Requests in JSON as protobuf messages, read as protobuf for Go reads them, with its texts.
//!
//! What a field may hold is what protobuf's mapping to JSON says: names as in the `.proto` file or in camel
//! case, 64-bit numbers as strings or numbers, bytes as base64 of any kind, enums as names or numbers, `null`
//! for a field that is not set. Fields and names of enums that nobody knows are passed over. The same field
//! twice, or two of those that exclude each other, are refused.

use base64::Engine;
use base64::alphabet::{self, Alphabet};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::number;
use super::token::{Token, TokenKind, Tokens};

/// Messages within each other, beyond which a request is refused: less than the 100 that the services read.
/// An answer is a little deeper than its request.
const DEEPEST: usize = 90;

/// The encoding of the message that `json` describes, whose grammar must be right.
///
/// # Errors
/// What is wrong, in the words of protobuf for Go.
pub(super) fn message(json: &[u8], descriptor: &MessageDescriptor) -> Result<Vec<u8>, String> {
    let mut reader = Reader { tokens: Tokens::of(json), depth: 0 };
    Ok(reader.message(descriptor)?.encode_to_vec())
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    depth: usize,
}

impl Reader<'_> {
    fn message(&mut self, descriptor: &MessageDescriptor) -> Result<DynamicMessage, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("proto: exceeded max recursion depth".to_owned());
        }
        self.open(&TokenKind::ObjectOpen)?;
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut seen = Vec::new();
        let mut decided = Vec::new();
        loop {
            let token = self.tokens.next()?;
            let TokenKind::String(name) = &token.kind else { break };
            let known = descriptor.get_field_by_json_name(name);
            let Some(field) = known.or_else(|| descriptor.get_field_by_name(name)) else {
                self.tokens.skip()?;
                continue;
            };
            if seen.contains(&field.number()) {
                return Err(self.tokens.meaning(token.place, &format!("duplicate field {}", token.raw)));
            }
            seen.push(field.number());
            if self.tokens.peek() == Some(b'n') {
                self.tokens.next()?;
                continue;
            }
            if let Some(choice) = field.containing_oneof() {
                let choice = choice.full_name().to_owned();
                if decided.contains(&choice) {
                    let text = format!("error parsing {}, oneof {choice} is already set", token.raw);
                    return Err(self.tokens.meaning(token.place, &text));
                }
                decided.push(choice);
            }
            let value = if field.is_list() { Some(self.list(&field)?) } else { self.single(&field)? };
            if let Some(value) = value {
                message.try_set_field(&field, value).map_err(|error| format!("proto: {error}"))?;
            }
        }
        self.depth -= 1;
        Ok(message)
    }

    fn list(&mut self, field: &FieldDescriptor) -> Result<Value, String> {
        self.open(&TokenKind::ArrayOpen)?;
        let mut values = Vec::new();
        while self.tokens.peek() != Some(b']') {
            values.extend(self.single(field)?);
        }
        self.tokens.next()?;
        Ok(Value::List(values))
    }

    /// One value of a field; none for the name of an enum that nobody knows.
    fn single(&mut self, field: &FieldDescriptor) -> Result<Option<Value>, String> {
        if let Kind::Message(descriptor) = field.kind() {
            return Ok(Some(Value::Message(self.message(&descriptor)?)));
        }
        let token = self.tokens.next()?;
        let unknown_name = match (&token.kind, field.kind()) {
            (TokenKind::String(name), Kind::Enum(values)) => values.get_value_by_name(name).is_none(),
            _ => false,
        };
        if unknown_name {
            return Ok(None);
        }
        scalar(&token, &field.kind()).map(Some).ok_or_else(|| {
            let (kind, name) = (kind_name(&field.kind()), field.json_name());
            let text = format!("invalid value for {kind} field {name}: {}", token.raw);
            self.tokens.meaning(token.place, &text)
        })
    }

    fn open(&mut self, kind: &TokenKind<'_>) -> Result<(), String> {
        let token = self.tokens.next()?;
        if token.kind == *kind {
            return Ok(());
        }
        Err(self.tokens.syntax(token.place, &format!("unexpected token {}", token.raw)))
    }
}

/// The value of a token for a field of this kind; none when it has none.
fn scalar(token: &Token<'_>, kind: &Kind) -> Option<Value> {
    match (kind, &token.kind) {
        (Kind::Bool, TokenKind::Bool(value)) => Some(Value::Bool(*value)),
        (Kind::String, TokenKind::String(text)) => Some(Value::String(text.clone().into_owned())),
        (Kind::Bytes, TokenKind::String(text)) => bytes(text).map(Value::Bytes),
        (Kind::Enum(values), TokenKind::String(name)) => {
            values.get_value_by_name(name).map(|value| Value::EnumNumber(value.number()))
        }
        (Kind::Enum(_), TokenKind::Number) => Some(Value::EnumNumber(integer(token)?.try_into().ok()?)),
        (Kind::Int32, _) => Some(Value::I32(integer(token)?.try_into().ok()?)),
        (Kind::Int64, _) => Some(Value::I64(integer(token)?.try_into().ok()?)),
        (Kind::Uint32, _) => Some(Value::U32(integer(token)?.try_into().ok()?)),
        (Kind::Uint64, _) => Some(Value::U64(integer(token)?.try_into().ok()?)),
        // No message of the surface has a field of another kind.
        _ => None,
    }
}

/// The integer of a number, or of a string that holds one.
fn integer(token: &Token<'_>) -> Option<i128> {
    match &token.kind {
        TokenKind::Number => number::integer(token.raw),
        TokenKind::String(text) if text.trim().len() == text.len() => number::integer(text),
        _ => None,
    }
}

/// The bytes of a text in base64: either alphabet, with its padding or without it.
fn bytes(text: &str) -> Option<Bytes> {
    const STANDARD: GeneralPurpose = engine(&alphabet::STANDARD, DecodePaddingMode::RequireCanonical);
    const STANDARD_UNPADDED: GeneralPurpose = engine(&alphabet::STANDARD, DecodePaddingMode::RequireNone);
    const URL_SAFE: GeneralPurpose = engine(&alphabet::URL_SAFE, DecodePaddingMode::RequireCanonical);
    const URL_SAFE_UNPADDED: GeneralPurpose = engine(&alphabet::URL_SAFE, DecodePaddingMode::RequireNone);
    let engine = match (text.contains(['-', '_']), text.len().is_multiple_of(4)) {
        (false, true) => STANDARD,
        (false, false) => STANDARD_UNPADDED,
        (true, true) => URL_SAFE,
        (true, false) => URL_SAFE_UNPADDED,
    };
    // Go passes over the ends of lines.
    let decoded = if text.contains(['\r', '\n']) {
        engine.decode(text.replace(['\r', '\n'], ""))
    } else {
        engine.decode(text)
    };
    decoded.ok().map(Bytes::from)
}

const fn engine(alphabet: &Alphabet, padding: DecodePaddingMode) -> GeneralPurpose {
    // Go does not look at the bits of the last character that mean nothing.
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config.with_decode_padding_mode(padding))
}

/// What protobuf calls a kind.
fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Message(_) => "message",
        Kind::Enum(_) => "enum",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::routes::Routes;
    use crate::gateway::syntax::Scanner;
    use crate::proto::etcdserverpb::compare::TargetUnion;
    use crate::proto::etcdserverpb::request_op::Request;
    use crate::proto::etcdserverpb::{
        Compare, LeaseGrantRequest, MemberAddRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        WatchCreateRequest, WatchRequest, watch_request::RequestUnion,
    };

    fn read(path: &str, json: &str) -> Result<Vec<u8>, String> {
        message(json.as_bytes(), &Routes::load().unwrap().find(path).unwrap().input)
    }

    fn check<M: Message + Default + PartialEq + std::fmt::Debug>(path: &str, json: &str, expected: &M) {
        let read = read(path, json).unwrap_or_else(|error| panic!("{json}: {error}"));
        assert_eq!(&M::decode(&read[..]).unwrap(), expected, "{json}");
    }

    #[test]
    fn every_form_of_a_field_is_read() {
        let all = RangeRequest {
            key: "foo".into(),
            range_end: "\0".into(),
            limit: 5,
            revision: -1,
            sort_order: 2,
            sort_target: 3,
            serializable: true,
            ..RangeRequest::default()
        };
        let path = "/v3/kv/range";
        check(
            path,
            r#"{"key":"Zm9v","range_end":"AA==","limit":"5","revision":-1,"sort_order":"DESCEND",
                "sort_target":3,"serializable":true}"#,
            &all,
        );
        check(
            path,
            r#"{"key":"Zm9v","rangeEnd":"AA","limit":5.0,"revision":"-1e0","sortOrder":2,"sortTarget":"MOD",
                "serializable":true,"keysOnly":null,"nobody":{"knows":[1,"2"]},"Limit":7,"SERIALIZABLE":5}"#,
            &all,
        );
        check(path, r#"{"sort_order":"NOBODY KNOWS"}"#, &RangeRequest::default());
        let lease = LeaseGrantRequest { ttl: 60, id: i64::MAX };
        check("/v3/lease/grant", r#"{"TTL":"60","ID":"9223372036854775807","ttl":"1"}"#, &lease);
        let member = MemberAddRequest { peer_ur_ls: vec!["a".into(), "é".into()], is_learner: true };
        check("/v3/cluster/member/add", r#"{"peerURLs":["a","\u00e9"],"isLearner":true}"#, &member);
    }

    #[test]
    fn messages_lie_within_messages() {
        let put = PutRequest { key: "foo".into(), value: "bar".into(), ..PutRequest::default() };
        let operation = |request| RequestOp { request: Some(request) };
        let compare = Compare {
            target: 1,
            key: "foo".into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![operation(Request::RequestPut(put))],
            failure: vec![operation(Request::RequestTxn(TxnRequest::default())), RequestOp::default()],
        };
        check(
            "/v3/kv/txn",
            r#"{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"0"}],
                "success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}],
                "failure":[{"request_txn":{}},{"request_put":null}]}"#,
            &txn,
        );
        let create = WatchCreateRequest { filters: vec![0, 1], ..WatchCreateRequest::default() };
        let watch = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        check("/v3/watch", r#"{"create_request":{"filters":["NOPUT","UNKNOWN",1]}}"#, &watch);
    }

    #[test]
    fn base64_is_read_as_go_reads_it() {
        let check =
            |text: &str, expected: Option<&[u8]>| assert_eq!(bytes(text).as_deref(), expected, "{text}");
        check("", Some(b""));
        check("Zm9v", Some(b"foo"));
        check("Zm8=", Some(b"fo"));
        check("Zm8", Some(b"fo"));
        check("+/8=", Some(b"\xfb\xff"));
        check("-_8", Some(b"\xfb\xff"));
        check("-_8=", Some(b"\xfb\xff"));
        check("Zm\n9v\r", Some(b"foo"));
        // Bits that mean nothing.
        check("Zh==", Some(b"f"));
        for wrong in ["Z", "Zm8==", "Zm9v!", "+_8=", "Zg=", "Z===", " Zm9v", "Zm9vé"] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_the_words_of_go() {
        let check = |path: &str, json: &str, expected: &str| {
            assert_eq!(read(path, json).unwrap_err(), format!("proto: {expected}"), "{json}");
        };
        let range = "/v3/kv/range";
        check(range, "[]", "syntax error (line 1:1): unexpected token [");
        check(range, "null", "syntax error (line 1:1): unexpected token null");
        check(range, "5", "syntax error (line 1:1): unexpected token 5");
        check(range, r#"{"key":5}"#, "(line 1:8): invalid value for bytes field key: 5");
        check(range, r#"{"key":{"a":1}}"#, "(line 1:8): invalid value for bytes field key: {");
        check(range, r#"{"key":"Z"}"#, r#"(line 1:8): invalid value for bytes field key: "Z""#);
        check(
            range,
            "{\n\"é\":1, \"limit\":\"é\"}",
            "(line 2:16): invalid value for int64 field limit: \"é\"",
        );
        check(range, r#"{"limit":" 5"}"#, r#"(line 1:10): invalid value for int64 field limit: " 5""#);
        check(range, r#"{"limit":1.5}"#, "(line 1:10): invalid value for int64 field limit: 1.5");
        check(
            range,
            r#"{"limit":9223372036854775808}"#,
            "(line 1:10): invalid value for int64 field limit: 9223372036854775808",
        );
        check(range, r#"{"sort_order":1.5}"#, "(line 1:15): invalid value for enum field sortOrder: 1.5");
        check(
            range,
            r#"{"serializable":"true"}"#,
            r#"(line 1:17): invalid value for bool field serializable: "true""#,
        );
        check(range, r#"{"key":"","key":""}"#, r#"(line 1:11): duplicate field "key""#);
        check(range, r#"{"rangeEnd":"","range_end":null}"#, r#"(line 1:16): duplicate field "range_end""#);
        check(range, "{\"x\":\"\u{1}\\ud800\"}", "unexpected EOF");
        let txn = "/v3/kv/txn";
        check(txn, r#"{"compare":{}}"#, "syntax error (line 1:12): unexpected token {");
        check(txn, r#"{"compare":[null]}"#, "syntax error (line 1:13): unexpected token null");
        check(
            txn,
            r#"{"success":[{"request_put":{},"requestRange":{}}]}"#,
            r#"(line 1:31): error parsing "requestRange", oneof etcdserverpb.RequestOp.request is already set"#,
        );
        check(
            "/v3/cluster/member/remove",
            r#"{"ID":-1}"#,
            "(line 1:7): invalid value for uint64 field ID: -1",
        );
    }

    proptest::proptest! {
        /// The pieces make JSON more often than letters would.
        #[test]
        fn nothing_that_is_sent_panics(
            text in "([{}\\[\\],: \n]|\"(key|limit|success|request_put|request_txn|Zm9v|1e2|\\\\u00e9|\\\\\"|.)\"|-?[0-9]{1,3}|1[.]5e[+]?1|true|null|tru|.){0,24}"
        ) {
            let mut scanner = Scanner::default();
            let end = scanner.advance(text.as_bytes());
            let value = match end {
                Ok(Some(end)) => Some(&text[..end]),
                Ok(None) if scanner.is_complete() => Some(&text[..]),
                _ => None,
            };
            let reference = serde_json::Deserializer::from_str(&text).into_iter::<serde::de::IgnoredAny>().next();
            let is_json = matches!(reference, Some(Ok(_)));
            proptest::prop_assert!(value.is_some() || !is_json, "not taken for JSON");
            if let Some(value) = value {
                proptest::prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok());
                for path in ["/v3/kv/range", "/v3/kv/txn"] {
                    let _ = read(path, value.trim_start());
                }
            }
        }
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |levels: usize| {
            let open = r#"{"success":[{"request_txn":"#.repeat(levels);
            format!("{open}{{}}{}", "}]}".repeat(levels))
        };
        let deepest = (DEEPEST - 1) / 2;
        let read_back = read("/v3/kv/txn", &nested(deepest)).unwrap();
        TxnRequest::decode(&read_back[..]).expect("the services read it too");
        let error = read("/v3/kv/txn", &nested(deepest + 1)).unwrap_err();
        assert_eq!(error, "proto: exceeded max recursion depth");
    }
}
