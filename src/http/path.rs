//! The path of a request as Go's `ServeMux` takes it: without escapes, and in its shortest form. A client
//! that writes it otherwise is sent there.

use std::fmt::Write;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Response, StatusCode, Uri};

use super::page::{Page, page};
use super::query;

/// The older beginning of the gateway's paths, and the one that it stands for.
const OLDER: &str = "/v3beta/";
const NEWER: &str = "/v3/";

/// What the path of a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The path to serve.
    Path(String),
    /// The path and query to ask for instead.
    Elsewhere(String),
    /// A path that is none.
    Malformed,
}

/// Reads the path of `uri`.
pub(super) fn asked(uri: &Uri) -> Asked {
    let Some(decoded) = query::unescape(uri.path(), query::Plus::IsPlus) else { return Asked::Malformed };
    let path = match decoded.strip_prefix(OLDER) {
        Some(rest) => [NEWER, rest].concat(),
        None => decoded,
    };
    let mut shortest = shorten(&path);
    // The gateway is a folder.
    if shortest == NEWER.trim_end_matches('/') {
        shortest.push('/');
    }
    if shortest == path {
        return Asked::Path(path);
    }
    let mut target = escape(&shortest);
    if let Some(query) = uri.query() {
        target = [&target, "?", query].concat();
    }
    Asked::Elsewhere(target)
}

/// The page that sends a client elsewhere.
pub(super) fn elsewhere(method: &Method, target: &str) -> Page {
    let mut page = Response::new(Bytes::new());
    *page.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(target) {
        page.headers_mut().insert(LOCATION, location);
    }
    // Only who looks at pages gets one.
    if method == Method::GET || method == Method::HEAD {
        let link = target.replace('&', "&amp;").replace('"', "&#34;").replace('\'', "&#39;");
        *page.body_mut() = format!("<a href=\"{link}\">Temporary Redirect</a>.\n\n").into();
        page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    page
}

/// The page for a path that is none.
pub(super) fn malformed() -> Page {
    page(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", "400 Bad Request")
}

/// The path without `//`, `.` and `..`.
fn shorten(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let mut shortest = ["/", &kept.join("/")].concat();
    if path.ends_with('/') && shortest != "/" {
        shortest.push('/');
    }
    shortest
}

/// Escapes what may not stand in a path.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
        // Writing to a string cannot fail.
        let _ = if plain { escaped.write_char(byte.into()) } else { write!(escaped, "%{byte:02X}") };
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::show;

    #[test]
    fn a_path_is_served_or_its_client_sent_elsewhere() {
        let check =
            |uri: &'static str, expected: Asked| assert_eq!(asked(&Uri::from_static(uri)), expected, "{uri}");
        let path = |path: &str| Asked::Path(path.to_owned());
        let elsewhere = |target: &str| Asked::Elsewhere(target.to_owned());
        check("/v3/kv/range", path("/v3/kv/range"));
        check("/v3/kv/%72ange?a=b", path("/v3/kv/range"));
        check("/v3/kv%2Frange", path("/v3/kv/range"));
        check("/v3/a+b", path("/v3/a+b"));
        check("/v3beta/kv/range", path("/v3/kv/range"));
        check("/v3beta", path("/v3beta"));
        check("/v3/", path("/v3/"));
        check("/", path("/"));
        check("/health/", path("/health/"));
        check("/v3", elsewhere("/v3/"));
        check("/v3?a=%62&c", elsewhere("/v3/?a=%62&c"));
        check("//v3/kv/range", elsewhere("/v3/kv/range"));
        check("/v3//kv/./x/../range/", elsewhere("/v3/kv/range/"));
        check("/v3beta//kv", elsewhere("/v3/kv"));
        check("/../a%20b//%C3%A9", elsewhere("/a%20b/%C3%A9"));
        check("/%zz", Asked::Malformed);
        check("/%4", Asked::Malformed);
    }

    #[test]
    fn only_who_looks_at_pages_gets_one() {
        let bare = "307\nlocation: /v3/?a&b\n\n";
        assert_eq!(show(&elsewhere(&Method::POST, "/v3/?a&b")), bare);
        let shown = "307\ncontent-type: text/html; charset=utf-8\nlocation: /v3/?a&b\n\n\
                     <a href=\"/v3/?a&amp;b\">Temporary Redirect</a>.\n\n";
        assert_eq!(show(&elsewhere(&Method::GET, "/v3/?a&b")), shown);
    }
}
