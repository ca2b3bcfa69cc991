//! Fixed answers against what etcdctl 3.7.1 printed for them.

use prost::Message;

use super::*;
use crate::proto::{Event, EventType, KeyValue};

const HEADER: pb::ResponseHeader = pb::ResponseHeader {
    cluster_id: 6_930_805_681_439_470_907,
    member_id: 9_265_619_892_315_062_708,
    revision: 54,
    raft_term: 2,
};
const LEASE: i64 = 0x01b4_a207_a09b_2eaa;

fn header() -> Option<pb::ResponseHeader> {
    Some(HEADER)
}

/// The header as JSON, without its braces.
const JSON: &str =
    r#""cluster_id":6930805681439470907,"member_id":9265619892315062708,"revision":54,"raft_term":2"#;
const FIELDS: &str = "\"ClusterID\" : 6930805681439470907\n\"MemberID\" : 9265619892315062708\n\
                      \"Revision\" : 54\n\"RaftTerm\" : 2\n";
const HEX_FIELDS: &str = "\"ClusterID\" : 602f2b0bd975753b\n\"MemberID\" : 80961833613b81b4\n\
                          \"Revision\" : 54\n\"RaftTerm\" : 2\n";

fn kv(key: &'static [u8], value: &'static [u8], revisions: (i64, i64, i64), lease: i64) -> EncodedKeyValue {
    let (create_revision, mod_revision, version) = revisions;
    let (key, value) = (key.into(), value.into());
    KeyValue { key, value, create_revision, mod_revision, version, lease }.into()
}

fn check(answer: &Answer, format: Format, hex: bool, expected: &str) {
    let bytes = render(answer, format, hex).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected.replace("HEADER", JSON), "{format:?} {answer:?}");
}

fn check_unsupported(answer: &Answer, formats: &[Format]) {
    for format in formats {
        assert_eq!(render(answer, *format, false), Err(RenderError::Unsupported), "{format:?}");
    }
}

#[test]
fn put() {
    let bare = Answer::Put(pb::PutResponse { header: header(), prev_kv: None });
    let previous = Some(kv(b"foo", b"baz", (9, 18, 6), 0));
    let full = Answer::Put(pb::PutResponse { header: header(), prev_kv: previous });
    check(&bare, Format::Simple, false, "OK\n");
    check(&full, Format::Simple, false, "OK\nfoo\nbaz\n");
    check(&full, Format::Simple, true, "OK\n\\x66\\x6f\\x6f\n\\x62\\x61\\x7a\n");
    check(&bare, Format::Json, false, "{\"header\":{HEADER}}\n");
    let json = r#"{"header":{HEADER},"prev_kv":{"key":"Zm9v","create_revision":9,"mod_revision":18,"version":6,"value":"YmF6"}}"#;
    check(&full, Format::Json, true, &format!("{json}\n"));
    check(&bare, Format::Fields, true, HEX_FIELDS);
    check_unsupported(&bare, &[Format::Table]);
}

#[test]
fn get() {
    let value = "b\"\x01\n\t\\é\u{2028}😀<&>".as_bytes();
    let kvs = vec![kv(b"k\x7f", value, (9, 10, 1), LEASE), kv(b"l", b"x\xffy\x00", (11, 11, 1), 0)];
    let response = pb::RangeResponse { header: header(), kvs, more: true, count: 3 };
    let get = Answer::Get { response: response.clone(), values_only: false };
    let simple = [b"k\x7f\n", value, b"\nl\nx\xffy\x00\n"].concat();
    assert_eq!(render(&get, Format::Simple, false).unwrap(), simple);
    let values = Answer::Get { response, values_only: true };
    let simple = [value, b"\nx\xffy\x00\n"].concat();
    assert_eq!(render(&values, Format::Simple, false).unwrap(), simple);
    let json = r#"{"header":{HEADER},"kvs":[{"key":"a38=","create_revision":9,"mod_revision":10,"version":1,"value":"YiIBCglcw6nigKjwn5iAPCY+","lease":122901243488841386},{"key":"bA==","create_revision":11,"mod_revision":11,"version":1,"value":"eP95AA=="}],"more":true,"count":3}"#;
    check(&get, Format::Json, false, &format!("{json}\n"));
    let fields = r#""Key" : "k\x7f"
"CreateRevision" : 9
"ModRevision" : 10
"Version" : 1
"Value" : "b\"\x01\n\t\\é\u2028😀<&>"
"Lease" : 01b4a207a09b2eaa
"Key" : "l"
"CreateRevision" : 11
"ModRevision" : 11
"Version" : 1
"Value" : "x\xffy\x00"
"Lease" : 0000000000000000
"More" : true
"Count" : 3
"#;
    check(&get, Format::Fields, true, &format!("{HEX_FIELDS}{fields}"));
    let nothing = Answer::Get {
        response: pb::RangeResponse { header: header(), ..Default::default() },
        values_only: false,
    };
    check(&nothing, Format::Simple, false, "");
    check(&nothing, Format::Json, false, "{\"header\":{HEADER}}\n");
    check(&nothing, Format::Fields, false, &format!("{FIELDS}\"More\" : false\n\"Count\" : 0\n"));
}

#[test]
fn delete() {
    let prev_kvs = vec![kv(b"new", b"x", (53, 53, 1), 0)];
    let delete = Answer::Delete(pb::DeleteRangeResponse { header: header(), deleted: 1, prev_kvs });
    check(&delete, Format::Simple, false, "1\nnew\nx\n");
    let json = r#"{"header":{HEADER},"deleted":1,"prev_kvs":[{"key":"bmV3","create_revision":53,"mod_revision":53,"version":1,"value":"eA=="}]}"#;
    check(&delete, Format::Json, false, &format!("{json}\n"));
    let fields = "\"Deleted\" : 1\n\"PrevKey\" : \"new\"\n\"PrevCreateRevision\" : 53\n\"PrevModRevision\" : 53\n\
                  \"PrevVersion\" : 1\n\"PrevValue\" : \"x\"\n\"PrevLease\" : 0\n";
    check(&delete, Format::Fields, false, &format!("{FIELDS}{fields}"));
}

#[test]
fn txn() {
    let inner = Some(pb::ResponseHeader { revision: 5, ..Default::default() });
    let operation = |response| pb::ResponseOp { response: Some(response) };
    let responses = vec![
        operation(pb::response_op::Response::ResponsePut(pb::PutResponse { header: inner, prev_kv: None })),
        operation(pb::response_op::Response::ResponseDeleteRange(pb::DeleteRangeResponse {
            header: inner,
            ..Default::default()
        })),
        operation(pb::response_op::Response::ResponseRange(pb::RangeResponse {
            kvs: vec![kv(b"a", b"1", (2, 2, 1), 0)],
            count: 1,
            ..Default::default()
        })),
    ];
    let txn = Answer::Txn(pb::TxnResponse { header: header(), succeeded: true, responses });
    check(&txn, Format::Simple, false, "SUCCESS\n\nOK\n\n0\n\na\n1\n");
    let json = r#"{"header":{HEADER},"succeeded":true,"responses":[{"Response":{"response_put":{"header":{"revision":5}}}},{"Response":{"response_delete_range":{"header":{"revision":5}}}},{"Response":{"response_range":{"kvs":[{"key":"YQ==","create_revision":2,"mod_revision":2,"version":1,"value":"MQ=="}],"count":1}}}]}"#;
    check(&txn, Format::Json, false, &format!("{json}\n"));
    let header = "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"Revision\" : 5\n\"RaftTerm\" : 0\n";
    let fields = render(&txn, Format::Fields, false).unwrap();
    let begin = format!("{FIELDS}\"Succeeded\" : true\n{header}{header}\"Deleted\" : 0\n");
    assert!(String::from_utf8(fields).unwrap().starts_with(&begin));
    let failed = Answer::Txn(pb::TxnResponse::default());
    check(&failed, Format::Simple, false, "FAILURE\n");
    check(&failed, Format::Json, false, "{}\n");
}

#[test]
fn watch() {
    let put = Event {
        r#type: EventType::Put.into(),
        kv: Some(kv(b"wa", b"2", (50, 54, 2), 0)),
        prev_kv: Some(kv(b"wa", b"1", (50, 50, 1), 0)),
    };
    let delete =
        Event { r#type: EventType::Delete.into(), kv: Some(kv(b"wa", b"", (0, 54, 0), 0)), prev_kv: None };
    let events = vec![put.into(), delete.into()];
    let response = pb::WatchResponse { header: header(), watch_id: 7, events, ..Default::default() };
    let watch = Answer::Watch(response.clone());
    check(&watch, Format::Simple, false, "PUT\nwa\n1\nwa\n2\nDELETE\nwa\n\n");
    let json = r#"{"Header":{HEADER},"Events":[{"kv":{"key":"d2E=","create_revision":50,"mod_revision":54,"version":2,"value":"Mg=="},"prev_kv":{"key":"d2E=","create_revision":50,"mod_revision":50,"version":1,"value":"MQ=="}},{"type":1,"kv":{"key":"d2E=","mod_revision":54}}],"CompactRevision":0,"Canceled":false,"Created":false,"CancelReason":""}"#;
    check(&watch, Format::Json, false, &format!("{json}\n"));
    let fields = "\"Type\" : PUT\n\"PrevKey\" : \"wa\"\n\"PrevCreateRevision\" : 50\n\"PrevModRevision\" : 50\n\
                  \"PrevVersion\" : 1\n\"PrevValue\" : \"1\"\n\"PrevLease\" : 0\n\"Key\" : \"wa\"\n\
                  \"CreateRevision\" : 50\n\"ModRevision\" : 54\n\"Version\" : 2\n\"Value\" : \"2\"\n\
                  \"Lease\" : 0\n\"Type\" : DELETE\n\"Key\" : \"wa\"\n\"CreateRevision\" : 0\n\
                  \"ModRevision\" : 54\n\"Version\" : 0\n\"Value\" : \"\"\n\"Lease\" : 0\n";
    check(&watch, Format::Fields, false, &format!("{FIELDS}{fields}"));
    let plain = pb::WatchResponse { watch_id: 0, ..response };
    assert_eq!(render(&watch, Format::Protobuf, false).unwrap(), plain.encode_to_vec());

    let header = Some(pb::ResponseHeader { revision: 0, ..HEADER });
    let compacted = Answer::Watch(pb::WatchResponse {
        header,
        compact_revision: 5,
        canceled: true,
        ..Default::default()
    });
    check(&compacted, Format::Simple, false, "");
    let json = r#"{"Header":{"cluster_id":6930805681439470907,"member_id":9265619892315062708,"raft_term":2},"Events":null,"CompactRevision":5,"Canceled":true,"Created":false,"CancelReason":""}"#;
    check(&compacted, Format::Json, false, &format!("{json}\n"));
}

#[test]
fn leases() {
    let grant = Answer::LeaseGrant(pb::LeaseGrantResponse {
        header: header(),
        id: LEASE,
        ttl: 50,
        error: String::new(),
    });
    check(&grant, Format::Simple, false, "lease 01b4a207a09b2eaa granted with TTL(50s)\n");
    check(&grant, Format::Json, true, "{HEADER,\"ID\":122901243488841386,\"TTL\":50,\"Error\":\"\"}\n");
    check(&grant, Format::Fields, false, &format!("{FIELDS}\"ID\" : 122901243488841386\n\"TTL\" : 50\n"));
    check(&grant, Format::Fields, true, &format!("{HEX_FIELDS}\"ID\" : 01b4a207a09b2eaa\n\"TTL\" : 50\n"));
    assert_eq!(render(&grant, Format::Protobuf, false).unwrap(), HEADER.encode_to_vec());

    let renewed =
        Answer::LeaseKeepAlive(pb::LeaseKeepAliveResponse { header: header(), id: LEASE, ttl: 100 });
    check(&renewed, Format::Simple, false, "lease 01b4a207a09b2eaa keepalived with TTL(100)\n");
    check(&renewed, Format::Json, false, "{HEADER,\"ID\":122901243488841386,\"TTL\":100}\n");

    let revoked = Answer::LeaseRevoke { id: -16, response: pb::LeaseRevokeResponse { header: header() } };
    check(&revoked, Format::Simple, false, "lease -000000000000010 revoked\n");
    check(&revoked, Format::Json, false, "{\"header\":{HEADER}}\n");
    check_unsupported(&revoked, &[Format::Protobuf, Format::Table]);

    let listed = |ids: &[i64]| {
        let leases = ids.iter().map(|id| pb::LeaseStatus { id: *id }).collect();
        Answer::LeaseList(pb::LeaseLeasesResponse { header: header(), leases })
    };
    check(&listed(&[LEASE]), Format::Simple, false, "found 1 leases\n01b4a207a09b2eaa\n");
    check(&listed(&[LEASE]), Format::Json, false, "{HEADER,\"leases\":[{\"id\":122901243488841386}]}\n");
    check(&listed(&[]), Format::Json, false, "{HEADER,\"leases\":[]}\n");
}

#[test]
fn time_to_live() {
    let answer = |ttl, granted_ttl, keys: &[&'static str]| Answer::LeaseTimeToLive {
        response: pb::LeaseTimeToLiveResponse {
            header: header(),
            id: LEASE,
            ttl,
            granted_ttl,
            keys: keys.iter().map(|key| (*key).into()).collect(),
        },
        keys: !keys.is_empty(),
    };
    let gone = answer(-1, 0, &[]);
    check(&gone, Format::Simple, false, "lease 01b4a207a09b2eaa already expired\n");
    let json = "{HEADER,\"id\":122901243488841386,\"ttl\":-1,\"granted-ttl\":0,\"keys\":null}\n";
    check(&gone, Format::Json, false, json);
    let living = answer(99, 100, &["leased", "leased2"]);
    let simple =
        "lease 01b4a207a09b2eaa granted with TTL(100s), remaining(99s), attached keys([leased leased2])\n";
    check(&living, Format::Simple, false, simple);
    let json =
        r#"{HEADER,"id":122901243488841386,"ttl":99,"granted-ttl":100,"keys":["bGVhc2Vk","bGVhc2VkMg=="]}"#;
    check(&living, Format::Json, false, &format!("{json}\n"));
    let fields = "\"ID\" : 122901243488841386\n\"TTL\" : 99\n\"GrantedTTL\" : 100\n\"Key\" : \"leased\"\n\"Key\" : \"leased2\"\n";
    check(&living, Format::Fields, false, &format!("{FIELDS}{fields}"));
}

#[test]
fn members() {
    let member = pb::Member {
        id: HEADER.member_id,
        name: "n1".to_owned(),
        peer_ur_ls: vec!["http://127.0.0.1:33800".to_owned()],
        client_ur_ls: vec!["http://127.0.0.1:33790".to_owned()],
        is_learner: false,
    };
    let header = Some(pb::ResponseHeader { revision: 0, ..HEADER });
    let members = Answer::MemberList(pb::MemberListResponse { header, members: vec![member] });
    let simple = "80961833613b81b4, started, n1, http://127.0.0.1:33800, http://127.0.0.1:33790, false\n";
    check(&members, Format::Simple, false, simple);
    let json = r#"{"header":{"cluster_id":6930805681439470907,"member_id":9265619892315062708,"raft_term":2},"members":[{"ID":9265619892315062708,"name":"n1","peerURLs":["http://127.0.0.1:33800"],"clientURLs":["http://127.0.0.1:33790"]}]}"#;
    check(&members, Format::Json, false, &format!("{json}\n"));
    let json = r#"{"header":{"cluster_id":"602f2b0bd975753b","member_id":"80961833613b81b4","raft_term":2},"members":[{"ID":"80961833613b81b4","name":"n1","peerURLs":["http://127.0.0.1:33800"],"clientURLs":["http://127.0.0.1:33790"]}]}"#;
    check(&members, Format::Json, true, &format!("{json}\n"));
    let fields = r#""ClusterID" : 6930805681439470907
"MemberID" : 9265619892315062708
"RaftTerm" : 2
"ID" : 9265619892315062708
"Name" : "n1"
"PeerURL" : "http://127.0.0.1:33800"
"ClientURL" : "http://127.0.0.1:33790"
"IsLearner" : false

"#;
    check(&members, Format::Fields, false, fields);
    let table = "\
┌──────────────────┬─────────┬──────┬────────────────────────┬────────────────────────┬────────────┐
│        ID        │ STATUS  │ NAME │       PEER ADDRS       │      CLIENT ADDRS      │ IS LEARNER │
├──────────────────┼─────────┼──────┼────────────────────────┼────────────────────────┼────────────┤
│ 80961833613b81b4 │ started │   n1 │ http://127.0.0.1:33800 │ http://127.0.0.1:33790 │      false │
└──────────────────┴─────────┴──────┴────────────────────────┴────────────────────────┴────────────┘
";
    check(&members, Format::Table, false, table);
}

#[test]
fn alarms() {
    let alarm = pb::AlarmMember { member_id: HEADER.member_id, alarm: pb::AlarmType::Nospace.into() };
    let alarms = Answer::Alarm(pb::AlarmResponse { header: header(), alarms: vec![alarm] });
    check(&alarms, Format::Simple, false, "memberID:9265619892315062708 alarm:NOSPACE\n");
    let json = "{\"header\":{HEADER},\"alarms\":[{\"memberID\":9265619892315062708,\"alarm\":1}]}\n";
    check(&alarms, Format::Json, false, json);
    let fields = "\"MemberID\" : 80961833613b81b4\n\"AlarmType\" : NOSPACE\n\n";
    check(&alarms, Format::Fields, true, &format!("{HEX_FIELDS}{fields}"));
}

#[test]
fn endpoint_health() {
    let one = |endpoint: &str, took: &str, error: &str| EndpointHealth {
        endpoint: endpoint.to_owned(),
        took: took.to_owned(),
        error: error.to_owned(),
    };
    let endpoints = vec![
        one("127.0.0.1:33790", "13.607492ms", ""),
        one("127.0.0.1:1", "501.342656ms", "context deadline exceeded"),
    ];
    let ill = "127.0.0.1:1 is unhealthy: failed to commit proposal: context deadline exceeded\n";
    assert_eq!(unhealthy(&endpoints), ill);
    let health = Answer::EndpointHealth(endpoints);
    let simple = "127.0.0.1:33790 is healthy: successfully committed proposal: took = 13.607492ms\n";
    check(&health, Format::Simple, false, simple);
    let json = r#"[{"endpoint":"127.0.0.1:33790","health":true,"took":"13.607492ms"},{"endpoint":"127.0.0.1:1","health":false,"took":"501.342656ms","error":"context deadline exceeded"}]"#;
    check(&health, Format::Json, false, &format!("{json}\n"));
    let fields = "\"Endpoint\" : \"127.0.0.1:33790\"\n\"Health\" : true\n\"Took\" : 13.607492ms\n\"Error\" : \n\n\
                  \"Endpoint\" : \"127.0.0.1:1\"\n\"Health\" : false\n\"Took\" : 501.342656ms\n\
                  \"Error\" : context deadline exceeded\n\n";
    check(&health, Format::Fields, false, fields);
    let table = "\
┌─────────────────┬────────┬──────────────┬───────────────────────────┐
│    ENDPOINT     │ HEALTH │     TOOK     │           ERROR           │
├─────────────────┼────────┼──────────────┼───────────────────────────┤
│ 127.0.0.1:33790 │   true │  13.607492ms │                           │
│     127.0.0.1:1 │  false │ 501.342656ms │ context deadline exceeded │
└─────────────────┴────────┴──────────────┴───────────────────────────┘
";
    check(&health, Format::Table, false, table);
    check_unsupported(&health, &[Format::Protobuf]);
}

#[test]
fn endpoint_status() {
    let status = pb::StatusResponse {
        header: header(),
        version: "3.7.1".to_owned(),
        db_size: 24576,
        leader: HEADER.member_id,
        raft_index: 87,
        raft_term: 2,
        raft_applied_index: 87,
        db_size_in_use: 24576,
        storage_version: "3.7.0".to_owned(),
        db_size_quota: 2_147_483_648,
        downgrade_info: Some(pb::DowngradeInfo::default()),
        ..Default::default()
    };
    let answer = Answer::EndpointStatus(vec![("127.0.0.1:33790".to_owned(), status)]);
    let simple = "127.0.0.1:33790, 80961833613b81b4, 3.7.1, 3.7.0, 25 kB, 25 kB, 0%, 2.1 GB, true, false, 2, 87, 87, , , false\n";
    check(&answer, Format::Simple, false, simple);
    let json = r#"[{"Endpoint":"127.0.0.1:33790","Status":{"header":{HEADER},"version":"3.7.1","dbSize":24576,"leader":9265619892315062708,"raftIndex":87,"raftTerm":2,"raftAppliedIndex":87,"dbSizeInUse":24576,"storageVersion":"3.7.0","dbSizeQuota":2147483648,"downgradeInfo":{}}}]"#;
    check(&answer, Format::Json, false, &format!("{json}\n"));
    let fields = r#""Version" : "3.7.1"
"StorageVersion" : "3.7.0"
"DBSize" : 24576
"DBSizeInUse" : 24576
"DBSizeQuota" : 2147483648
"Leader" : 9265619892315062708
"IsLearner" : false
"RaftIndex" : 87
"RaftTerm" : 2
"RaftAppliedIndex" : 87
"Errors" : []
"Endpoint" : "127.0.0.1:33790"
"DowngradeTargetVersion" : ""
"DowngradeEnabled" : false

"#;
    check(&answer, Format::Fields, false, &format!("{FIELDS}{fields}"));
    let none = Answer::EndpointStatus(Vec::new());
    check(&none, Format::Json, false, "null\n");
    let table = String::from_utf8(render(&none, Format::Table, false).unwrap()).unwrap();
    let edges: Vec<_> = table.lines().map(|line| line.chars().next().unwrap()).collect();
    assert_eq!(edges, ['┌', '│', '└']);
}

#[test]
fn endpoint_hash_kv() {
    let response =
        pb::HashKvResponse { header: header(), hash: 940_469_556, compact_revision: -1, hash_revision: 20 };
    let answer = Answer::EndpointHashKv(vec![("127.0.0.1:33790".to_owned(), response)]);
    check(&answer, Format::Simple, true, "127.0.0.1:33790, 940469556, 20\n");
    let json = r#"[{"Endpoint":"127.0.0.1:33790","HashKV":{"header":{HEADER},"hash":940469556,"compact_revision":-1,"hash_revision":20}}]"#;
    check(&answer, Format::Json, true, &format!("{json}\n"));
    let fields = "\"Endpoint\" : \"127.0.0.1:33790\"\n\"Hash\" : 940469556\n\"HashRevision\" : 20\n\n";
    check(&answer, Format::Fields, false, &format!("{FIELDS}{fields}"));
}

#[test]
fn move_leader() {
    let answer = Answer::MoveLeader {
        from: 0x1f,
        to: HEADER.member_id,
        response: pb::MoveLeaderResponse { header: header() },
    };
    check(&answer, Format::Simple, false, "Leadership transferred from 1f to 80961833613b81b4\n");
    check(&answer, Format::Json, false, "{\"header\":{HEADER}}\n");
    check_unsupported(&answer, &[Format::Fields, Format::Table]);
}

#[test]
fn sizes_are_written_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (24_576, "25 kB"),
        (2_147_483_648, "2.1 GB"),
        (i64::MAX, "9.2 EB"),
        (-1, "0 B"),
    ] {
        assert_eq!(table::humanize(bytes), text);
    }
}

#[test]
fn json_is_escaped_as_go_does() {
    let answer = Answer::EndpointHealth(vec![EndpointHealth {
        endpoint: "<é\u{2028}\"&>".to_owned(),
        took: "1s".to_owned(),
        error: "x".to_owned(),
    }]);
    let json = "[{\"endpoint\":\"\\u003cé\\u2028\\\"\\u0026\\u003e\",\"health\":false,\"took\":\"1s\",\"error\":\"x\"}]\n";
    check(&answer, Format::Json, false, json);
}

#[test]
fn garbage_is_an_error() {
    let garbage = EncodedKeyValue::from_bytes(bytes::Bytes::from_static(b"\x0a\xff"));
    let answer = Answer::Put(pb::PutResponse { header: None, prev_kv: Some(garbage) });
    for format in [Format::Simple, Format::Json, Format::Fields] {
        assert!(matches!(render(&answer, format, false), Err(RenderError::Malformed(_))));
    }
}
