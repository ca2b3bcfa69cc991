//! The JSON gateway: every call of the surface as a POST below `/v3/`, in the dialect of etcd's grpc-gateway.
//!
//! ```text
//!   POST path --> routes: which method?
//!   headers ----> metadata ---------.
//!   body -------> values --> read --+--> rpc, as a call of gRPC without a socket
//!                                                     |
//!   answer <----- write <----------- messages <-------'
//! ```
//!
//! A request is turned into the very call that a client of gRPC would make, and given to the entry of all
//! calls (`rpc`). So limits, deadlines, counters, what a learner refuses and what needs a leader are the
//! same, and so is every error. What messages look like in JSON follows from the descriptors of the services;
//! the table of routes is all that is said about single methods.
//!
//! A stream of answers goes out line by line, each as soon as it is there. A stream of requests is read while
//! answers go out: each request is passed on as soon as its last byte has come.
//!
//! Invariants:
//! - a call ends with its client: everything of it lives in the connection's task;
//! - nothing that a client sends is logged, and no more of it is kept than a few times the largest message;
//! - large messages are translated off the network's thread;
//! - the body of an error is etcd's, with the text that etcd has for it.

mod messages;
mod metadata;
mod number;
mod read;
mod routes;
mod syntax;
mod token;
mod values;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use prost_reflect::MessageDescriptor;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::rpc::Instrumented;
use crate::rt;
use messages::Messages;
use routes::{Route, Routes};
use values::Values;

pub use routes::RoutesError;

/// Bytes of a message or its JSON above which it is translated off the network's thread.
const LARGE: usize = 64 * 1024;

/// What a line of a stream of answers has around the answer.
const LINE: [&str; 2] = ["{\"result\":", "}\n"];

/// The gateway of a member. Clones are the same one.
#[derive(Clone)]
pub struct Gateway {
    grpc: Instrumented,
    routes: Arc<Routes>,
}

impl Gateway {
    /// A gateway to the services of `grpc`.
    ///
    /// # Errors
    /// When the descriptors that were built into the program do not fit the routes.
    pub fn new(grpc: Instrumented) -> Result<Self, RoutesError> {
        Ok(Self { grpc, routes: Arc::new(Routes::load()?) })
    }

    /// Answers a request for `path`, which is below `/v3/` and has no escapes.
    pub async fn answer(&self, path: &str, request: Request<Body>) -> Response<Body> {
        let Some(route) = self.routes.find(path) else {
            return refuse(&Status::not_found("Not Found"));
        };
        if request.method() != Method::POST {
            return refuse(&Status::unimplemented("Method Not Allowed"));
        }
        let answered = if route.answers_stream {
            self.stream(route, request).await
        } else {
            self.unary(route, request).await
        };
        answered.unwrap_or_else(|status| refuse(&status))
    }

    async fn unary(&self, route: &Route, request: Request<Body>) -> Result<Response<Body>, Status> {
        let call = self.call_of_one(route, request).await?;
        let mut messages = self.call(call).await;
        let Some(message) = messages.next().await? else {
            return Err(Status::internal("the call has no answer"));
        };
        // The status comes behind it.
        messages.next().await?;
        let json = translate(message, route.output.clone(), ["", ""]).await?;
        Ok(succeed(Body::new(Full::new(json))))
    }

    async fn stream(&self, route: &Route, request: Request<Body>) -> Result<Response<Body>, Status> {
        let call = if route.requests_stream {
            let (parts, body) = request.into_parts();
            let values = Values::new(body, self.grpc.receive_limit());
            let requests = requests(values, route.input.clone());
            call(route, metadata::of(&parts.headers)?, Body::new(StreamBody::new(requests)))
        } else {
            self.call_of_one(route, request).await?
        };
        let mut messages = self.call(call).await;
        // Nothing is said before there is something to say: the first line decides the status.
        Ok(match messages.next().await {
            Ok(Some(first)) => {
                let lines = Lines { messages, output: route.output.clone(), first: Some(first) };
                succeed(Body::new(StreamBody::new(lines.stream())))
            }
            Ok(None) => Response::new(unmeasured(Bytes::new())),
            Err(status) => {
                let mut response = refuse(&status);
                *response.body_mut() = unmeasured(write::error_line(&status).into());
                response
            }
        })
    }

    /// The call of a request whose body is one message. What follows it is not looked at; no body at all
    /// stands for an empty message.
    async fn call_of_one(&self, route: &Route, request: Request<Body>) -> Result<Request<Body>, Status> {
        let (parts, body) = request.into_parts();
        let metadata = metadata::of(&parts.headers)?;
        let value = Values::new(body, self.grpc.receive_limit()).next().await?;
        let value = value.unwrap_or(Bytes::from_static(b"{}"));
        let message = understand(value, route.input.clone()).await?;
        Ok(call(route, metadata, Body::new(Full::new(messages::frame(&message)))))
    }

    async fn call(&self, call: Request<Body>) -> Messages {
        let Ok(answer) = self.grpc.call_within(call).await;
        Messages::new(answer)
    }
}

/// A call of gRPC.
fn call(route: &Route, metadata: HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(route.method);
    *request.headers_mut() = metadata;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request
}

/// The requests of a stream, as a body of gRPC. One that cannot be read ends them, and the client hears
/// nothing of it: etcd's gateway takes it for the end of the body.
fn requests(
    values: Values,
    input: MessageDescriptor,
) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static {
    stream::unfold((values, input), |(mut values, input)| async move {
        let value = values.next().await.ok().flatten()?;
        let message = understand(value, input.clone()).await.ok()?;
        Some((Ok(Frame::data(messages::frame(&message))), (values, input)))
    })
}

/// A stream of answers on its way to the client.
struct Lines {
    messages: Messages,
    output: MessageDescriptor,
    /// The answer that is there already.
    first: Option<Bytes>,
}

impl Lines {
    /// One line for each answer, and one for an error.
    fn stream(self) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static {
        stream::unfold(Some(self), |lines| async {
            let mut lines = lines?;
            match lines.next().await {
                Ok(line) => line.map(|line| (Ok(Frame::data(line)), Some(lines))),
                Err(status) => Some((Ok(Frame::data(write::error_line(&status).into())), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let message = match self.first.take() {
            Some(first) => Some(first),
            None => self.messages.next().await?,
        };
        match message {
            Some(message) => translate(message, self.output.clone(), LINE).await.map(Some),
            None => Ok(None),
        }
    }
}

/// The message that `json` describes.
async fn understand(json: Bytes, input: MessageDescriptor) -> Result<Vec<u8>, Status> {
    let large = json.len() > LARGE;
    off_thread(large, move || read::message(&json, &input)).await.map_err(Status::invalid_argument)
}

/// The JSON of a message, with what comes around it.
async fn translate(
    message: Bytes,
    output: MessageDescriptor,
    around: [&'static str; 2],
) -> Result<Bytes, Status> {
    let large = message.len() > LARGE;
    off_thread(large, move || write::message(message, &output, around)).await.map(Bytes::from)
}

/// Does `work` here, or beside the network's thread if it is large.
async fn off_thread<T: Send + 'static>(large: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if large { rt::blocking(work).await } else { work() }
}

/// An answer that is good.
fn succeed(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The one header of the call's own answer.
    response.headers_mut().insert("grpc-metadata-content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// An answer that is an error.
fn refuse(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(write::error(status).into())));
    *response.status_mut() = write::http_status(status.code());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::try_from(status.message())
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, message);
    }
    response
}

/// A body whose length is not told beforehand, as that of every stream.
fn unmeasured(bytes: Bytes) -> Body {
    let frames = (!bytes.is_empty()).then(|| Ok::<_, Status>(Frame::data(bytes)));
    Body::new(StreamBody::new(stream::iter(frames)))
}

#[cfg(test)]
mod tests;
