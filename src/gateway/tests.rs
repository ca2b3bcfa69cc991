//! The gateway of a member without a loop: what is answered before a call reaches one, and what becomes of
//! a call that nobody answers.

use std::time::Duration;

use http_body_util::BodyExt;

use super::*;
use crate::mailbox::MailboxReceiver;
use crate::metrics::testing::{self, view};
use crate::rpc::{Rpc, RpcConfig};
use crate::types::MemberId;

/// Largest message of the gateways here, in bytes.
const LIMIT: usize = 1024 + crate::limits::GRPC_OVERHEAD_BYTES;

fn gateway(view: crate::member::MemberView) -> (Gateway, MailboxReceiver) {
    let (metrics, mailbox, receiver) = testing::metrics(view, Vec::new(), None);
    let config =
        RpcConfig { max_request_bytes: 1024, max_txn_ops: 8, election_timeout: Duration::from_millis(1) };
    (Gateway::new(Instrumented::new(Rpc::new(mailbox, config), metrics)).unwrap(), receiver)
}

fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let request =
        headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
    request.body(Body::new(Full::new(Bytes::copy_from_slice(body.as_bytes())))).unwrap()
}

/// Status, headers by name and body.
async fn show(response: Response<Body>) -> String {
    let status = response.status().as_u16();
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    format!("{status}\n{}\n{}", headers.concat(), String::from_utf8_lossy(&body))
}

const JSON: &str = "content-type: application/json\n";
const GOOD: &str = "content-type: application/json\ngrpc-metadata-content-type: application/grpc\n";

#[test]
fn a_request_is_answered_in_json_or_refused_in_etcds_words() {
    rt::run(async {
        let (gateway, _receiver) = gateway(view());
        let check = async |path: &str, body: &str, expected: &str| {
            assert_eq!(
                show(gateway.answer(path, post(path, &[], body)).await).await,
                expected,
                "{path} {body}"
            );
        };
        let header = r#"{"header":{"cluster_id":"324952591200643719","member_id":"3319814642761637952","#;
        let found = format!("200\n{GOOD}\n{header}\"revision\":\"1\"}}}}");
        check("/v3/kv/range", r#"{"key":"Zm9v"}"#, &found).await;
        // Only the first value counts.
        check("/v3/kv/range", r#" {"key":"Zm9v"} x"#, &found).await;
        let no_key = format!("400\n{JSON}\n{{\"code\":3,\"message\":\"etcdserver: key is not provided\"}}");
        check("/v3/kv/range", "{}", &no_key).await;
        check("/v3/kv/range", "", &no_key).await;
        let malformed = format!("400\n{JSON}\n{{\"code\":3,\"message\":\"unexpected EOF\"}}");
        check("/v3/kv/range", "{", &malformed).await;
        check("/v3/election/observe", "{", &malformed).await;
        let wrong = r#"{"code":3,"message":"proto: (line 1:8): invalid value for bytes field key: 5"}"#;
        check("/v3/kv/range", r#"{"key":5}"#, &format!("400\n{JSON}\n{wrong}")).await;
        let not_found = format!("404\n{JSON}\n{{\"code\":5,\"message\":\"Not Found\"}}");
        for path in ["/v3/", "/v3/kv/range/", "/v3/nope"] {
            check(path, "{}", &not_found).await;
        }
        let unbuilt = r#"{"code":12,"message":"detcd: defragmentation is not supported by this version"}"#;
        check("/v3/maintenance/defragment", "{}", &format!("501\n{JSON}\n{unbuilt}")).await;
    })
    .unwrap();
}

#[test]
fn only_post_is_served() {
    rt::run(async {
        let (gateway, _receiver) = gateway(view());
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let request = Request::builder().method(method).body(Body::empty()).unwrap();
            let answer = show(gateway.answer("/v3/kv/range", request).await).await;
            assert_eq!(answer, format!("501\n{JSON}\n{{\"code\":12,\"message\":\"Method Not Allowed\"}}"));
        }
    })
    .unwrap();
}

#[test]
fn a_message_has_the_limit_of_grpc() {
    rt::run(async {
        let (gateway, _receiver) = gateway(view());
        let ask = async |key: String| {
            let body = format!("{{\"key\":\"{key}\"}}");
            show(gateway.answer("/v3/kv/range", post("/", &[], &body)).await).await
        };
        let refused = |length: usize| {
            let text = format!("grpc: received message larger than max ({length} vs. {LIMIT})");
            format!("429\n{JSON}\n{{\"code\":8,\"message\":\"{text}\"}}")
        };
        // Four characters stand for three bytes; the field's own name and length take four more.
        let fits = (LIMIT - 4) / 3;
        assert!(ask("AAAA".repeat(fits)).await.starts_with("200\n"));
        assert_eq!(ask("AAAA".repeat(fits + 2)).await, refused(3 * (fits + 2) + 4));
        let far = ask("AAAA".repeat(2 * LIMIT)).await;
        assert!(far.starts_with("429\n") && far.ends_with(&format!("vs. {LIMIT})\"}}")), "{far}");
    })
    .unwrap();
}

#[test]
fn headers_reach_the_call() {
    rt::run(async {
        let mut leaderless = view();
        leaderless.status.leader = MemberId(0);
        let (gateway, _receiver) = gateway(leaderless);
        let ask = async |path: &str, name: &str, value: &str, body: &str| {
            show(gateway.answer(path, post(path, &[(name, value)], body)).await).await
        };
        let serializable = r#"{"key":"Zm9v","serializable":true}"#;
        let no_leader = r#"{"code":14,"message":"etcdserver: no leader"}"#;
        let answer = ask("/v3/kv/range", "Grpc-Metadata-Hasleader", "true", serializable).await;
        assert_eq!(answer, format!("503\n{JSON}\n{no_leader}"));
        assert!(ask("/v3/kv/range", "Hasleader", "true", serializable).await.starts_with("200\n"));
        // Before the first answer of a stream, the error has the status of the whole.
        let answer = ask("/v3/watch", "Grpc-Metadata-Hasleader", "true", "{}").await;
        assert_eq!(answer, format!("503\n{JSON}\n{{\"error\":{no_leader}}}\n"));
        let answer = ask("/v3/kv/range", "Grpc-Timeout", "5x", serializable).await;
        assert_eq!(answer, format!("400\n{JSON}\n{{\"code\":3,\"message\":\"invalid grpc-timeout: 5x\"}}"));
    })
    .unwrap();
}

#[test]
fn no_call_outlives_its_deadline() {
    rt::run(async {
        let (gateway, _quiet) = gateway(view());
        let late = r#"{"code":4,"message":"context deadline exceeded"}"#;
        let ask = async |path: &str, body: &str| {
            show(gateway.answer(path, post(path, &[("Grpc-Timeout", "20m")], body)).await).await
        };
        assert_eq!(ask("/v3/kv/put", r#"{"key":"Zm9v"}"#).await, format!("504\n{JSON}\n{late}"));
        let line = format!("504\n{JSON}\n{{\"error\":{late}}}\n");
        assert_eq!(ask("/v3/watch", r#"{"create_request":{"key":"Zm9v"}}"#).await, line);
        // What cannot be read is the end of the requests, and no error.
        assert_eq!(ask("/v3/watch", "x").await, line);
    })
    .unwrap();
}

#[test]
fn a_stream_without_answers_is_empty() {
    rt::run(async {
        let (gateway, _receiver) = gateway(view());
        for body in ["", "x", "{\"ID\":"] {
            let answer = gateway.answer("/v3/lease/keepalive", post("/", &[], body)).await;
            assert_eq!(show(answer).await, "200\n\n", "{body}");
        }
    })
    .unwrap();
}
