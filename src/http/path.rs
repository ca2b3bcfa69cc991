//! The path of a request as Go's `ServeMux` takes it: without escapes, and in its shortest form. A client
//! that writes it otherwise is sent there.

use std::borrow::Cow;
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
    /// A path of the gateway, without escapes.
    Gateway(String),
    /// A path of its own, without escapes.
    Page(String),
    /// The path and query to ask for instead.
    Elsewhere(String),
    /// A path that is none.
    Malformed,
}

/// Reads the path of `uri`, for a port that has a gateway or has none.
pub(super) fn asked(uri: &Uri, has_gateway: bool) -> Asked {
    let Some(mut path) = query::unescape(uri.path(), query::Plus::IsPlus) else { return Asked::Malformed };
    let mut written = Cow::Borrowed(uri.path());
    if let Some(rest) = path.strip_prefix(OLDER) {
        path = [NEWER, rest].concat();
        written = escape(&path).into();
    }
    let shortest = shorten(&written);
    if has_gateway && shortest == NEWER.trim_end_matches('/') {
        return elsewhere(NEWER, uri);
    }
    if shortest != written {
        // Escaped once more, as Go does it.
        return elsewhere(&escape(&shortest), uri);
    }
    let folder = written.trim_start_matches('/').split_once('/').map(|(folder, _)| folder);
    let folder = folder.and_then(|folder| query::unescape(folder, query::Plus::IsPlus));
    if has_gateway && folder.as_deref() == Some(NEWER.trim_matches('/')) {
        return Asked::Gateway(path);
    }
    // A slash that is escaped divides nothing.
    let divided = path.matches('/').count() == written.matches('/').count();
    Asked::Page(if divided { path } else { written.into_owned() })
}

fn elsewhere(path: &str, uri: &Uri) -> Asked {
    let query = uri.query().map_or_else(String::new, |query| ["?", query].concat());
    Asked::Elsewhere([path, &query].concat())
}

/// The page that sends a client elsewhere.
pub(super) fn redirect(method: &Method, target: &str) -> Page {
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
        let check = |uri: &'static str, expected: Asked| {
            assert_eq!(asked(&Uri::from_static(uri), true), expected, "{uri}");
        };
        let gateway = |path: &str| Asked::Gateway(path.to_owned());
        check("/v3/kv/range", gateway("/v3/kv/range"));
        check("/v3/kv/%72ange?a=b", gateway("/v3/kv/range"));
        check("/%763/kv%2Frange", gateway("/v3/kv/range"));
        check("/v3/a+b", gateway("/v3/a+b"));
        check("/v3/", gateway("/v3/"));
        check("/v3beta/kv/%72ange", gateway("/v3/kv/range"));
        let page = |path: &str| Asked::Page(path.to_owned());
        check("/", page("/"));
        check("/health/", page("/health/"));
        check("/ver%73ion", page("/version"));
        check("/livez%2Fx", page("/livez%2Fx"));
        check("/v3%2Fkv/range", page("/v3%2Fkv/range"));
        check("/v3beta", page("/v3beta"));
        let elsewhere = |target: &str| Asked::Elsewhere(target.to_owned());
        check("/v3", elsewhere("/v3/"));
        check("//v3?a=%62&c", elsewhere("/v3/?a=%62&c"));
        check("//v3/kv/range", elsewhere("/v3/kv/range"));
        check("/v3//kv/./x/../range/", elsewhere("/v3/kv/range/"));
        check("/v3beta//kv", elsewhere("/v3/kv"));
        check("/../a%20b//c", elsewhere("/a%2520b/c"));
        check("/%zz", Asked::Malformed);
        check("/%4", Asked::Malformed);
    }

    #[test]
    fn without_a_gateway_its_folder_is_none() {
        for (uri, path) in [("/v3", "/v3"), ("/v3/kv/range", "/v3/kv/range"), ("/v3beta/x", "/v3/x")] {
            assert_eq!(asked(&Uri::from_static(uri), false), Asked::Page(path.to_owned()), "{uri}");
        }
    }

    #[test]
    fn only_who_looks_at_pages_gets_one() {
        let bare = "307\nlocation: /v3/?a&b\n\n";
        assert_eq!(show(&redirect(&Method::POST, "/v3/?a&b")), bare);
        let shown = "307\ncontent-type: text/html; charset=utf-8\nlocation: /v3/?a&b\n\n\
                     <a href=\"/v3/?a&amp;b\">Temporary Redirect</a>.\n\n";
        assert_eq!(show(&redirect(&Method::GET, "/v3/?a&b")), shown);
    }
}
