//! The headers that let scripts of other sites use the HTTP endpoints (`--cors`).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN,
};
use http::{HeaderMap, HeaderValue};

/// The origins that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// None for all.
    origins: Option<Vec<String>>,
}

impl Cors {
    /// Allows every origin, the default.
    pub fn any() -> Self {
        Self { origins: None }
    }

    /// Allows these origins; `*` among them allows all, and so does an empty list (etcd).
    pub fn only(origins: Vec<String>) -> Self {
        let all = origins.is_empty() || origins.iter().any(|origin| origin == "*");
        Self { origins: (!all).then_some(origins) }
    }

    /// Adds the headers to an answer to a request with the headers `asked`.
    pub(super) fn add(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        answer.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        );
        if let Some(origin) = self.allowed(asked.get(ORIGIN)) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        answer.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, content-type, authorization"),
        );
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(listed) => origin.filter(|origin| listed.iter().any(|one| **origin == **one)).cloned(),
        }
    }
}
