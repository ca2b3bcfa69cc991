//! HTTP beside gRPC: health, versions, metrics, and what the peer port answers.
//!
//! ```text
//!   client port ---> /version /health /livez /readyz /metrics, /v3/ to the gateway, with CORS headers
//!   metrics port --> /health /livez /readyz /metrics
//!   peer port -----> /members /version
//! ```
//!
//! A page is a function of the member's published view and the query; only the reads that health checks
//! make go to the member. Bodies and headers are etcd's, byte for byte.
//!
//! Invariants:
//! - no page needs a token, and none changes anything: calls are the gateway's;
//! - a scrape is rendered off the network's thread.

mod checks;
mod cors;
mod health;
mod members;
mod page;
mod path;
mod query;
mod read;
mod version;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::gateway::Gateway;
use crate::mailbox::Mailbox;
use crate::metrics::{self, Metrics};
use crate::net::{Handler, HandlerFn};
use crate::rt;

use page::{Page, page};

pub use cors::Cors;

/// What the endpoints need.
struct Endpoints {
    mailbox: Mailbox,
    metrics: Arc<Metrics>,
}

/// What answers on a client port.
struct ClientPort {
    endpoints: Endpoints,
    /// None when it is turned off.
    gateway: Option<Gateway>,
    cors: Cors,
}

/// The HTTP handler of a client port. Without a gateway, nothing is found below `/v3/`.
pub fn client_handler(
    mailbox: Mailbox,
    metrics: Arc<Metrics>,
    gateway: Option<Gateway>,
    cors: Cors,
) -> impl Handler {
    let port = Arc::new(ClientPort { endpoints: Endpoints { mailbox, metrics }, gateway, cors });
    HandlerFn(move |request: Request<Incoming>| {
        let port = port.clone();
        async move { Ok::<_, Infallible>(port.answer(request.map(Body::new)).await) }
    })
}

/// The HTTP handler of a port that serves metrics and health alone.
pub fn metrics_handler(mailbox: Mailbox, metrics: Arc<Metrics>) -> impl Handler {
    let endpoints = Arc::new(Endpoints { mailbox, metrics });
    HandlerFn(move |request: Request<Incoming>| {
        let endpoints = endpoints.clone();
        async move {
            let uri = request.uri();
            let query = uri.query().unwrap_or_default();
            let page = endpoints.monitoring(request.method(), uri.path(), query).await;
            Ok::<_, Infallible>(respond(page.unwrap_or_else(page::not_found)))
        }
    })
}

/// The HTTP handler of a peer port.
pub fn peer_handler(mailbox: Mailbox) -> impl Handler {
    HandlerFn(move |request: Request<Incoming>| {
        let page = peer(&mailbox, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(respond(page)) }
    })
}

impl ClientPort {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let mut allowed = HeaderMap::new();
        self.cors.add(request.headers(), &mut allowed);
        let asked = path::asked(request.uri(), self.gateway.is_some());
        let mut answer = match (asked, &self.gateway) {
            (path::Asked::Malformed, _) => return respond(path::malformed()),
            _ if request.method() == Method::OPTIONS => respond(Response::new(Bytes::new())),
            (path::Asked::Elsewhere(target), _) => respond(path::redirect(request.method(), &target)),
            (path::Asked::Gateway(path), Some(gateway)) => gateway.answer(&path, request).await,
            (path::Asked::Gateway(path) | path::Asked::Page(path), _) => {
                let query = request.uri().query().unwrap_or_default();
                respond(self.endpoints.client(request.method(), &path, query).await)
            }
        };
        answer.headers_mut().extend(allowed);
        answer
    }
}

impl Endpoints {
    async fn client(&self, method: &Method, path: &str, query: &str) -> Page {
        if path == "/version" {
            return get(method, || version::version(&self.mailbox.view()));
        }
        self.monitoring(method, path, query).await.unwrap_or_else(page::not_found)
    }

    /// What client ports and metrics ports share; none for other paths.
    async fn monitoring(&self, method: &Method, path: &str, query: &str) -> Option<Page> {
        // etcd gives the page to any method.
        if path == "/metrics" {
            return Some(scrape(self.metrics.clone()).await);
        }
        let asked = checks::Asked::parse(path);
        if path != "/health" && asked.is_none() {
            return None;
        }
        if method != Method::GET {
            return Some(page::only_get());
        }
        if let Some(asked) = asked {
            return Some(checks::checks(&self.mailbox, self.metrics.health(), asked, query).await);
        }
        let (page, healthy) = health::health(&self.mailbox, query).await;
        self.metrics.health().health(healthy);
        Some(page)
    }
}

/// `/metrics`.
async fn scrape(metrics: Arc<Metrics>) -> Page {
    match rt::blocking(move || metrics.render()).await {
        Ok(text) => page(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(error) => page::text(StatusCode::INTERNAL_SERVER_ERROR, error + "\n"),
    }
}

/// What a peer port answers.
fn peer(mailbox: &Mailbox, method: &Method, path: &str) -> Page {
    let view = mailbox.view();
    match path {
        "/members" => get(method, || members::members(&view)),
        "/version" => get(method, || version::version(&view)),
        _ => page::not_found(),
    }
}

/// The page, if it is asked for with GET.
fn get(method: &Method, page: impl FnOnce() -> Page) -> Page {
    if method == Method::GET { page() } else { page::only_get() }
}

/// JSON of plain strings, which has no way to fail.
fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn respond(page: Page) -> Response<Body> {
    page.map(|body| Body::new(Full::new(body).map_err(|never| match never {})))
}

#[cfg(test)]
mod tests;
