//! What a client hears whose message is none of protobuf: the words of gRPC for Go, which say nothing of the
//! place, as etcd's clients know them.

use http::HeaderMap;
use tonic::{Code, Status};

use super::status::status_in;
use crate::metrics::CallKind;

/// What tonic's text begins with.
const TONIC: &str = "failed to decode Protobuf message";

/// What it ends with when a text is none.
const NO_TEXT: &str = "data is not UTF-8 encoded";

/// The status of a call of this kind with such a message.
pub(super) fn status(kind: CallKind) -> Status {
    because("proto: cannot parse invalid wire-format data", kind)
}

fn because(reason: &str, kind: CallKind) -> Status {
    let failed = match kind {
        CallKind::Unary => "error unmarshalling request",
        CallKind::ServerStream | CallKind::BidiStream => "failed to unmarshal the received message",
    };
    Status::internal(format!("grpc: {failed}: {reason}"))
}

/// Puts it in the place of tonic's text, if that is in these headers or trailers.
pub(super) fn translate(headers: &mut HeaderMap, kind: CallKind) {
    if status_in(headers) != Some(Code::Internal as i32) {
        return;
    }
    let Some(told) = Status::from_header_map(headers) else { return };
    if told.message().starts_with(TONIC) {
        let is_no_text = told.message().ends_with(NO_TEXT);
        let status =
            if is_no_text { because("string field contains invalid UTF-8", kind) } else { status(kind) };
        // Its text is one that a header can hold.
        let _ = status.add_header(headers);
    }
}
