//! The few shapes of answers that the endpoints have, header for header as etcd's Go server sends them.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};

/// A whole answer.
pub(super) type Page = Response<Bytes>;

/// An answer with a body of the given type.
pub(super) fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(body.into());
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

/// JSON that succeeded.
pub(super) fn json(body: impl Into<Bytes>) -> Page {
    page(StatusCode::OK, "application/json", body)
}

/// Text that browsers may not take for anything else.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    let mut page = page(status, "text/plain; charset=utf-8", body);
    page.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

/// The answer to a path that is not served.
pub(super) fn not_found() -> Page {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The answer to any method but GET.
pub(super) fn only_get() -> Page {
    let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    page
}
