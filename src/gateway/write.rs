//! Answers as JSON, in the form that etcd's gateway gives them: names as in the `.proto` file, 64-bit numbers
//! as strings, bytes as padded base64, enums by name, and nothing that has its default value.
//!
//! Go's library varies the blanks between tokens from build to build, so that nobody relies on them. Here
//! are none.

use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::{Code, Status};

const OPTIONS: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// The JSON of an encoded message, between `before` and `after`.
///
/// # Errors
/// When the bytes are no encoding of the message, which is a bug of ours.
pub(super) fn message(
    encoded: Bytes,
    descriptor: &MessageDescriptor,
    [before, after]: [&str; 2],
) -> Result<Vec<u8>, Status> {
    let unreadable = |error: &dyn std::fmt::Display| Status::internal(format!("unreadable answer: {error}"));
    // Bytes become a third longer, and names come with them.
    let mut json = Vec::with_capacity(encoded.len() * 2 + 64);
    json.extend_from_slice(before.as_bytes());
    let message = DynamicMessage::decode(descriptor.clone(), encoded).map_err(|error| unreadable(&error))?;
    let mut serializer = serde_json::Serializer::new(&mut json);
    message.serialize_with_options(&mut serializer, &OPTIONS).map_err(|error| unreadable(&error))?;
    json.extend_from_slice(after.as_bytes());
    Ok(json)
}

/// The JSON of an error.
pub(super) fn error(status: &Status) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Error<'a> {
        code: i32,
        #[serde(skip_serializing_if = "str::is_empty")]
        message: &'a str,
    }
    let error = Error { code: status.code() as i32, message: status.message() };
    // A number and a string have no way to fail.
    serde_json::to_vec(&error).unwrap_or_default()
}

/// The line of a stream that tells of an error, and that is its last.
pub(super) fn error_line(status: &Status) -> Vec<u8> {
    [&br#"{"error":"#[..], &error(status), b"}\n"].concat()
}

/// The status of HTTP for one of gRPC (grpc-gateway).
pub(super) fn http_status(code: Code) -> http::StatusCode {
    use http::StatusCode;
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // "Client closed request" is a number that no standard names.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::gateway::routes::Routes;
    use crate::proto::etcdserverpb::{
        HashKvResponse, LeaseGrantResponse, Member, MemberListResponse, PutResponse, RangeResponse,
        ResponseHeader, ResponseOp, TxnResponse, WatchResponse, response_op,
    };
    use crate::proto::{Event, KeyValue};

    fn check(path: &str, answer: &impl Message, expected: &str) {
        let output = &Routes::load().unwrap().find(path).unwrap().output.clone();
        let json = message(answer.encode_to_vec().into(), output, ["", ""]).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn fields_have_the_form_of_etcd() {
        let header = ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: -3, raft_term: 0 };
        let kv =
            KeyValue { key: "foo".into(), value: vec![0xfb, 0xff].into(), version: 1, ..KeyValue::default() };
        let range = RangeResponse {
            header: Some(header),
            kvs: vec![(&kv).into(), KeyValue::default().into()],
            more: true,
            count: 2,
        };
        check(
            "/v3/kv/range",
            &range,
            r#"{"header":{"cluster_id":"18446744073709551615","member_id":"2","revision":"-3"},"kvs":[{"key":"Zm9v","version":"1","value":"+/8="},{}],"more":true,"count":"2"}"#,
        );
        check("/v3/kv/put", &PutResponse::default(), "{}");
        let put = PutResponse { header: Some(ResponseHeader::default()), prev_kv: None };
        check("/v3/kv/put", &put, r#"{"header":{}}"#);
        let operation = ResponseOp { response: Some(response_op::Response::ResponsePut(put)) };
        let txn = TxnResponse { responses: vec![operation], ..TxnResponse::default() };
        check("/v3/kv/txn", &txn, r#"{"responses":[{"response_put":{"header":{}}}]}"#);
        let event = Event { r#type: 1, kv: Some((&kv).into()), prev_kv: None };
        let watch = WatchResponse { watch_id: 7, events: vec![event.into()], ..WatchResponse::default() };
        check(
            "/v3/watch",
            &watch,
            r#"{"watch_id":"7","events":[{"type":"DELETE","kv":{"key":"Zm9v","version":"1","value":"+/8="}}]}"#,
        );
        let hash = HashKvResponse { hash: 9, compact_revision: -1, ..HashKvResponse::default() };
        check("/v3/maintenance/hashkv", &hash, r#"{"hash":9,"compact_revision":"-1"}"#);
        let lease = LeaseGrantResponse { id: 1, ttl: 2, ..LeaseGrantResponse::default() };
        check("/v3/lease/grant", &lease, r#"{"ID":"1","TTL":"2"}"#);
        let member =
            Member { id: 5, name: "é<\n".into(), peer_ur_ls: vec!["http://a".into()], ..Member::default() };
        let members = MemberListResponse { header: None, members: vec![member] };
        check(
            "/v3/cluster/member/list",
            &members,
            r#"{"members":[{"ID":"5","name":"é<\n","peerURLs":["http://a"]}]}"#,
        );
    }

    #[test]
    fn an_error_is_its_code_and_its_message() {
        let check = |status: Status, http: u16, body: &str| {
            assert_eq!(String::from_utf8(error(&status)).unwrap(), body);
            assert_eq!(http_status(status.code()).as_u16(), http, "{body}");
        };
        check(Status::not_found("Not Found"), 404, r#"{"code":5,"message":"Not Found"}"#);
        check(Status::unknown("a \"b\""), 500, r#"{"code":2,"message":"a \"b\""}"#);
        check(Status::cancelled(""), 499, r#"{"code":1}"#);
        assert_eq!(error_line(&Status::aborted("x")), b"{\"error\":{\"code\":10,\"message\":\"x\"}}\n");
    }

    #[test]
    fn an_answer_that_is_none_is_our_fault() {
        let output = &Routes::load().unwrap().find("/v3/kv/put").unwrap().output.clone();
        let status = message(Bytes::from_static(&[0xff]), output, ["", ""]).unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }
}
