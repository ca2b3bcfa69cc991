//! Leases.

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::watch_request::RequestUnion;
use futures::stream;

use super::{Client, answer, ask_both, bytes, refused, told};

async fn attach(client: &mut Client, key: &str, lease: i64) {
    let put = pb::PutRequest { key: bytes(key), lease, ..Default::default() };
    client.try_put(put).await.expect("a put");
}

#[test]
fn probe_11_a_put_without_a_lease_detaches() {
    ask_both(async |client| {
        client.grant(7, 100).await.expect("a lease");
        attach(client, "a", 7).await;
        attach(client, "b", 7).await;
        attach(client, "a", 0).await;
        answer(client.lease.lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await).expect("it is there");
        assert_eq!(client.get("a").await.expect("it stays").lease, 0);
        assert!(client.get("b").await.is_none(), "it goes with its lease");
    });
}

/// The answers to keep-alives of one lease after the other on one stream.
async fn kept_alive(client: &mut Client, leases: &[i64]) -> Vec<(i64, i64)> {
    let requests: Vec<_> = leases.iter().map(|&id| pb::LeaseKeepAliveRequest { id }).collect();
    let answered = client.lease.lease_keep_alive(stream::iter(requests)).await;
    let mut answers = answer(answered).expect("a stream");
    let mut lives = Vec::new();
    while let Some(answer) = answers.message().await.expect("no error") {
        lives.push((answer.id, answer.ttl));
    }
    lives
}

#[test]
fn probe_12_lives_of_leases() {
    ask_both(async |client| {
        let granted = client.grant(7, 1).await.expect("a lease");
        assert_eq!((granted.id, granted.ttl, granted.error.as_str()), (7, 2, ""));
        refused(client.grant(8, 9_000_000_001).await, "OutOfRange: etcdserver: too large lease TTL");
        refused(client.grant(7, 100).await, "FailedPrecondition: etcdserver: lease already exists");
        assert_eq!(client.grant(8, -1).await.expect("a lease").ttl, 2);
        assert_eq!(client.grant(9, 9_000_000_000).await.expect("a lease").ttl, 9_000_000_000);
        assert_eq!(kept_alive(client, &[9, 99, 9]).await, [(9, 9_000_000_000), (99, 0), (9, 9_000_000_000)]);
        let unknown = pb::LeaseTimeToLiveRequest { id: 99, keys: true };
        let unknown = answer(client.lease.lease_time_to_live(unknown).await).expect("no error");
        assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl, unknown.keys.len()), (99, -1, 0, 0));
        refused(
            answer(client.lease.lease_revoke(pb::LeaseRevokeRequest { id: 99 }).await),
            "NotFound: etcdserver: requested lease not found",
        );
    });
}

/// Beside the appendix: what runs out goes in one revision, and watchers hear of it.
#[test]
fn a_lease_that_runs_out_takes_its_keys_at_once() {
    ask_both(async |client| {
        client.grant(7, 1).await.expect("a lease");
        for key in ["c", "a", "b"] {
            attach(client, key, 7).await;
        }
        let all = pb::WatchCreateRequest {
            key: bytes("a"),
            range_end: bytes("\0"),
            prev_kv: true,
            ..Default::default()
        };
        let mut watching = client.watch([RequestUnion::CreateRequest(all)]).await;
        assert!(watching.next().await.created);
        let response = watching.next().await;
        let expected = ["delete a=@5 was a=", "delete b=@5 was b=", "delete c=@5 was c="];
        assert_eq!(told(&response), expected);
        assert_eq!(kept_alive(client, &[7]).await, [(7, 0)]);
    });
}
