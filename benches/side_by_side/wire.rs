//! Unary gRPC calls at little cost.
//!
//! The generated stubs would decode every answer; here most answers are only counted, and a request
//! may be encoded once and sent many times.

use bytes::{BufMut, Bytes, BytesMut};
use detcd::client::Channel;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const TXN: &str = "/etcdserverpb.KV/Txn";

/// Length of the head of a gRPC message: not compressed, and its size.
const HEAD: usize = 5;

/// A message as gRPC frames it.
pub fn frame(message: &impl Message) -> Bytes {
    let size = message.encoded_len();
    let mut framed = BytesMut::with_capacity(HEAD + size);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(size).expect("requests are small"));
    message.encode_raw(&mut framed);
    framed.freeze()
}

/// Calls a method and gives the size of its answer, which is dropped as it comes in.
pub async fn call_for_size(
    channel: &mut Channel,
    path: &'static str,
    framed: Bytes,
) -> Result<usize, Status> {
    let mut size = 0;
    call(channel, path, framed, |data| size += data.len()).await?;
    Ok(size.saturating_sub(HEAD))
}

/// Calls a method and decodes its answer.
pub async fn call_for_message<A: Message + Default>(
    channel: &mut Channel,
    path: &'static str,
    framed: Bytes,
) -> Result<A, Status> {
    let mut answer = BytesMut::new();
    call(channel, path, framed, |data| answer.extend_from_slice(&data)).await?;
    let message = answer.get(HEAD..).ok_or_else(|| Status::internal("an answer without a message"))?;
    A::decode(message).map_err(|error| Status::internal(error.to_string()))
}

async fn call(
    channel: &mut Channel,
    path: &'static str,
    framed: Bytes,
    mut take: impl FnMut(Bytes),
) -> Result<(), Status> {
    let mut request = Request::new(Body::new(Full::new(framed)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));

    let response = channel.call(request).await?;
    if response.status() != StatusCode::OK {
        return Err(Status::unknown(format!("HTTP status {}", response.status())));
    }
    if let Some(status) = Status::from_header_map(response.headers()) {
        return ok(status);
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => take(data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let missing = || Status::unknown("trailers without a status");
                return ok(Status::from_header_map(&trailers).unwrap_or_else(missing));
            }
        }
    }
    Err(Status::unknown("an answer without trailers"))
}

fn ok(status: Status) -> Result<(), Status> {
    if status.code() == Code::Ok { Ok(()) } else { Err(status) }
}
