//! HTTP beside gRPC: health, versions, metrics, and what the peer port answers.
//!
//! ```text
//!   client port ---> /version /health /livez /readyz /metrics, /v3/ (not built), with CORS headers
//!   metrics port --> /health /livez /readyz /metrics
//!   peer port -----> /members /version
//! ```
//!
//! A page is a function of the member's published view and the query; only the reads that health checks
//! make go to the member. Bodies and headers are etcd's, byte for byte.
//!
//! Invariants:
//! - no endpoint needs a token, and none changes anything;
//! - a scrape is rendered off the network's thread.

mod checks;
mod cors;
mod health;
mod members;
mod page;
mod query;
mod read;
mod version;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::mailbox::Mailbox;
use crate::metrics::{self, Metrics};
use crate::net::{Handler, HandlerFn};
use crate::rt;

use page::{Page, page};

pub use cors::Cors;

/// The answer of the JSON gateway, which is not built: the code is that of gRPC's `UNIMPLEMENTED`.
const NO_GATEWAY: &str =
    r#"{"code":12,"message":"detcd: the JSON gateway is not supported by this version"}"#;

/// What the endpoints need.
#[derive(Clone)]
struct Endpoints {
    mailbox: Mailbox,
    metrics: Arc<Metrics>,
    cors: Option<Cors>,
}

/// The HTTP handler of a client port.
pub fn client_handler(mailbox: Mailbox, metrics: Arc<Metrics>, cors: Cors) -> impl Handler {
    let endpoints = Arc::new(Endpoints { mailbox, metrics, cors: Some(cors) });
    HandlerFn(move |request: Request<Incoming>| {
        let endpoints = endpoints.clone();
        async move { Ok::<_, Infallible>(respond(endpoints.client(&request).await)) }
    })
}

/// The HTTP handler of a port that serves metrics and health alone.
pub fn metrics_handler(mailbox: Mailbox, metrics: Arc<Metrics>) -> impl Handler {
    let endpoints = Arc::new(Endpoints { mailbox, metrics, cors: None });
    HandlerFn(move |request: Request<Incoming>| {
        let endpoints = endpoints.clone();
        async move {
            let page = endpoints.monitoring(request.method(), request.uri()).await;
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

impl Endpoints {
    async fn client<B>(&self, request: &Request<B>) -> Page {
        let mut page = if request.method() == Method::OPTIONS {
            Response::new(Bytes::new())
        } else {
            self.client_page(request).await
        };
        if let Some(cors) = &self.cors {
            cors.add(request.headers(), page.headers_mut());
        }
        page
    }

    async fn client_page<B>(&self, request: &Request<B>) -> Page {
        let path = request.uri().path();
        if path == "/version" {
            return get(request.method(), || version::version(&self.mailbox.view()));
        }
        if path == "/v3" || path.starts_with("/v3/") {
            return page(StatusCode::NOT_IMPLEMENTED, "application/json", NO_GATEWAY);
        }
        self.monitoring(request.method(), request.uri()).await.unwrap_or_else(page::not_found)
    }

    /// What client ports and metrics ports share; none for other paths.
    async fn monitoring(&self, method: &Method, uri: &http::Uri) -> Option<Page> {
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
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
