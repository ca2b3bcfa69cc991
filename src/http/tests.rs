//! The endpoints of each port as tables of request and answer.

use std::sync::Arc;

use futures::FutureExt;

use super::*;
use crate::mailbox::{MailboxReceiver, mailbox};
use crate::member::MemberView;
use crate::metrics::testing::{self, alarms, view};
use crate::net::{self, Services};
use crate::proto::etcdserverpb::AlarmType;
use crate::rt::io::{AsyncReadExt, AsyncWriteExt, duplex};
use crate::types::MemberId;

const CORS: &str = "access-control-allow-headers: accept, content-type, authorization\n\
                    access-control-allow-methods: POST, GET, OPTIONS, PUT, DELETE\n\
                    access-control-allow-origin: *\n";
const TEXT: &str = "content-type: text/plain; charset=utf-8\nx-content-type-options: nosniff\n";

/// A page as text: status, headers by name, an empty line, the body.
pub(super) fn show(page: &Page) -> String {
    let mut headers: Vec<_> =
        page.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    headers.sort();
    let body = String::from_utf8_lossy(page.body());
    format!("{}\n{}\n{body}", page.status().as_u16(), headers.concat())
}

/// A client port without a gateway.
fn client_port(view: MemberView) -> (ClientPort, MailboxReceiver) {
    let (metrics, mailbox, receiver) = testing::metrics(view, Vec::new(), None);
    let endpoints = Endpoints { mailbox, metrics };
    (ClientPort { endpoints, gateway: None, cors: Cors::any() }, receiver)
}

fn request(line: &str) -> Request<Body> {
    let (method, uri) = line.split_once(' ').unwrap();
    Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
}

/// The answer of a member that never has to wait, as text.
fn ask(port: &ClientPort, line: &str) -> String {
    let whole = async {
        let (head, body) = port.answer(request(line)).await.into_parts();
        Page::from_parts(head, body.collect().await.unwrap().to_bytes())
    };
    show(&whole.now_or_never().expect("no page waits here"))
}

/// Asks the client port of a member that never has to wait.
fn check_client(view: MemberView, line: &str, expected: &str) {
    let (port, _receiver) = client_port(view);
    let shown = ask(&port, line);
    assert!(shown.contains(CORS), "{line}: {shown}");
    assert_eq!(shown.replacen(CORS, "", 1), expected, "{line}");
}

#[test]
fn the_client_port_answers_as_etcd_does() {
    let json = "content-type: application/json\n";
    let not_found = format!("404\n{TEXT}\n404 page not found\n");
    let only_get = format!("405\nallow: GET\n{TEXT}\nMethod Not Allowed\n");
    let healthy = "200\ncontent-type: text/plain; charset=utf-8\n\n{\"health\":\"true\",\"reason\":\"\"}";
    let version = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    let check = |line, expected: &str| check_client(view(), line, expected);
    check("GET /version", &format!("200\n{json}\n{version}"));
    check("POST /version", &only_get);
    check("HEAD /version", &only_get);
    check("GET /version/", &not_found);
    check("GET /health", healthy);
    check("GET /health?serializable=true&exclude=NOSPACE", healthy);
    check("POST /health", &only_get);
    check("GET /livez", &format!("200\n{TEXT}\nok\n"));
    check("GET /livez?verbose", &format!("200\n{TEXT}\n[+]serializable_read ok\nok\n"));
    check("POST /livez", &only_get);
    check("POST /readyz/non_learner", &only_get);
    check("POST /livez/nope", &not_found);
    check(
        "GET /readyz?verbose=false",
        &format!(
            "200\n{TEXT}\n[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
             [+]non_learner ok\nok\n"
        ),
    );
    check("GET /nope", &not_found);
    check("GET /", &not_found);
    check("GET /v2/keys", &not_found);
    check("GET /debug/vars", &not_found);
    check("OPTIONS /nope", "200\n\n");
    check(
        "GET /./x//version",
        "307\ncontent-type: text/html; charset=utf-8\nlocation: /x/version\n\n\
                                  <a href=\"/x/version\">Temporary Redirect</a>.\n\n",
    );
    check("GET /ver%73ion", &format!("200\n{json}\n{version}"));
    // Turned off.
    check("POST /v3/kv/range", &not_found);
}

#[test]
fn a_troubled_member_says_what_troubles_it() {
    let mut corrupt = view();
    corrupt.alarms = alarms(&[AlarmType::Corrupt]);
    check_client(
        corrupt,
        "GET /readyz/data_corruption",
        &format!("503\n{TEXT}\n[-]data_corruption failed: alarm activated: CORRUPT\n\n"),
    );
    let mut learner = view();
    learner.status.is_learner = true;
    check_client(
        learner,
        "GET /readyz/non_learner?verbose",
        &format!("503\n{TEXT}\n[-]non_learner failed: not supported for learner\n\n"),
    );
    let mut leaderless = view();
    leaderless.status.leader = MemberId(0);
    check_client(
        leaderless,
        "GET /health",
        &format!("503\n{TEXT}\n{{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}}\n"),
    );
}

#[test]
fn a_read_that_fails_is_the_reason() {
    let mut view = view();
    view.status.reads_need_no_round = false;
    let (port, receiver) = client_port(view);
    // The loop is gone: it answers no read index.
    drop(receiver);
    let ask = |line| ask(&port, line);
    let health = ask("GET /health");
    assert!(
        health
            .ends_with("\n\n{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: server stopped\"}\n"),
        "{health}"
    );
    let ready = ask("GET /readyz/linearizable_read");
    assert!(
        ready.ends_with("\n\n[-]linearizable_read failed: range error: etcdserver: server stopped\n\n"),
        "{ready}"
    );
    assert!(ask("GET /health?serializable=true").starts_with("200\n"));
    assert!(ask("GET /livez").starts_with("200\n"));
    let page = port.endpoints.metrics.render().unwrap();
    for line in [
        "etcd_server_health_failures 1",
        "etcd_server_health_success 1",
        r#"etcd_server_healthcheck{name="linearizable_read",type="readyz"} 0"#,
        r#"etcd_server_healthcheck{name="serializable_read",type="livez"} 1"#,
        r#"etcd_server_healthchecks_total{name="linearizable_read",status="error",type="readyz"} 1"#,
        r#"etcd_server_healthchecks_total{name="serializable_read",status="success",type="livez"} 1"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing");
    }
}

#[test]
fn the_peer_port_tells_who_belongs_to_the_cluster() {
    let mut undecided = view();
    undecided.cluster_version = None;
    let (mailbox, _receiver) = mailbox(Arc::new(undecided));
    let check = |line: &str, expected: &str| {
        let request = request(line);
        assert_eq!(show(&peer(&mailbox, request.method(), request.uri().path())), expected, "{line}");
    };
    let json = "content-type: application/json\n";
    check(
        "GET /members",
        &format!(
            "200\n{json}x-etcd-cluster-id: 48276a8f75b6a87\n\n\
             [{{\"id\":3319814642761637952,\"peerURLs\":[\"http://127.0.0.1:2380\"],\"name\":\"m1\",\
             \"clientURLs\":[\"http://127.0.0.1:2379\"]}}]\n"
        ),
    );
    check(
        "GET /version",
        &format!(
            "200\n{json}\n{}",
            r#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"3.7.0"}"#
        ),
    );
    check("POST /members", &format!("405\nallow: GET\n{TEXT}\nMethod Not Allowed\n"));
    check("GET /health", &format!("404\n{TEXT}\n404 page not found\n"));
    check("GET /metrics", &format!("404\n{TEXT}\n404 page not found\n"));
}

#[test]
fn the_metrics_port_has_no_version() {
    let (port, _receiver) = client_port(view());
    let ask = |line: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let method = method.parse().unwrap();
        port.endpoints.monitoring(&method, path, "").now_or_never().expect("answered at once")
    };
    assert!(ask("GET /version").is_none());
    assert!(ask("GET /v3/kv/range").is_none());
    assert_eq!(ask("GET /readyz").unwrap().status(), StatusCode::OK);
    assert_eq!(ask("OPTIONS /health").unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn a_listed_origin_is_answered_with_itself() {
    let check = |cors: &Cors, origin: Option<&'static str>, expected: Option<&str>| {
        let mut asked = http::HeaderMap::new();
        if let Some(origin) = origin {
            asked.insert(http::header::ORIGIN, http::HeaderValue::from_static(origin));
        }
        let mut answer = http::HeaderMap::new();
        cors.add(&asked, &mut answer);
        let allowed = answer.get(http::header::ACCESS_CONTROL_ALLOW_ORIGIN);
        assert_eq!(allowed.map(|origin| origin.to_str().unwrap()), expected);
    };
    let listed = Cors::only(vec!["http://a".to_owned(), "http://b".to_owned()]);
    check(&listed, Some("http://b"), Some("http://b"));
    check(&listed, Some("http://c"), None);
    check(&listed, None, None);
    check(&Cors::any(), Some("http://c"), Some("*"));
    assert_eq!(Cors::only(vec!["http://a".to_owned(), "*".to_owned()]), Cors::any());
}

#[test]
fn a_scrape_goes_over_a_plain_connection() {
    rt::run(async {
        let (metrics, mailbox, _receiver) = testing::metrics(view(), Vec::new(), None);
        let handler = client_handler(mailbox, metrics, None, Cors::any());
        let (mut client, server) = duplex(1024 * 1024);
        let (_trigger, shutdown) = rt::shutdown_channel();
        let served = rt::spawn(async move {
            let services = Services { grpc: handler.clone(), http: handler };
            net::serve_connection(server, services, &net::Options::default(), shutdown).await
        });
        let head = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        served.await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8;"), "{head}");
        assert!(body.contains("\netcd_server_has_leader 1\n"), "{body}");
    })
    .unwrap();
}
