//! What operators ask, and what a member keeps.

use std::time::Instant;

use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::alarm_request::AlarmAction;
use detcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;

use super::{
    Answer, Client, Place, answer, ask_both, ask_both_with, bytes, delete_op, put_op, refused, then,
};
use crate::call::PATIENCE;
use crate::process::{Kind, Server};

const NO_SPACE: &str = "ResourceExhausted: etcdserver: mvcc: database space exceeded";

async fn alarms(client: &mut Client, action: AlarmAction, member: u64) -> Vec<pb::AlarmMember> {
    let alarm = if action == AlarmAction::Get { pb::AlarmType::None } else { pb::AlarmType::Nospace };
    let request = pb::AlarmRequest { action: action as i32, member_id: member, alarm: alarm as i32 };
    answer(client.maintenance.alarm(request).await).expect("alarms").alarms
}

#[test]
fn probe_20_without_space_there_is_only_less() {
    ask_both_with(&["--quota-backend-bytes", "16777216"], async |client| {
        client.put("a", "1").await;
        let value = "v".repeat(1 << 20);
        let mut put = 0;
        let failure = loop {
            let large = pb::PutRequest { key: bytes("large"), value: bytes(&value), ..Default::default() };
            match client.try_put(large).await {
                Ok(_) => put += 1,
                Err(failure) => break failure,
            }
            assert!(put < 64, "there is no end to the space");
        };
        assert_eq!(failure, NO_SPACE);

        let member = client.server.identity().await.member;
        let raised = [pb::AlarmMember { member_id: member, alarm: pb::AlarmType::Nospace as i32 }];
        // Who finds no space while it applies says so first and raises the alarm then.
        let begun = Instant::now();
        while alarms(client, AlarmAction::Get, 0).await.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "no alarm");
        }
        assert_eq!(alarms(client, AlarmAction::Get, 0).await, raised);
        client.server.restart().await;
        assert_eq!(alarms(client, AlarmAction::Get, 0).await, raised, "it survives");

        refused(client.try_put(pb::PutRequest { key: bytes("b"), ..Default::default() }).await, NO_SPACE);
        refused(client.txn(then(vec![put_op("b", "")])).await, NO_SPACE);
        refused(client.grant(7, 100).await, NO_SPACE);
        client.txn(then(vec![delete_op("a", "")])).await.expect("a transaction that only deletes");
        assert_eq!(client.delete("large", "").await.1, 1);
        let revision =
            super::revision(&client.range(super::interval("a", "")).await.expect("a range").header);
        client.compact(revision).await.expect("a compaction");
        assert_eq!(alarms(client, AlarmAction::Deactivate, member).await, raised);
        assert_eq!(alarms(client, AlarmAction::Get, 0).await, []);
    });
}

/// Without the learner, which detcd does not have yet.
#[test]
fn probe_22_who_can_move_the_leader() {
    async fn move_leader(member: &Server, target_id: u64) -> Answer<pb::MoveLeaderResponse> {
        let mut client = MaintenanceClient::new(member.channel());
        answer(client.move_leader(pb::MoveLeaderRequest { target_id }).await)
    }
    async fn leader(member: &Server) -> u64 {
        let mut client = MaintenanceClient::new(member.channel());
        answer(client.status(pb::StatusRequest {}).await).expect("a status").leader
    }
    crate::run(async {
        for kind in [Kind::Etcd, Kind::Detcd] {
            let _place = Place(kind);
            let members = Server::start_cluster(kind, 3, &[]).await;
            let mut ids = Vec::new();
            for member in &members {
                ids.push(member.identity().await.member);
            }
            let leader_id = leader(&members[0]).await;
            let place = ids.iter().position(|&id| id == leader_id).expect("a leader");
            let follower = (place + 1) % members.len();

            let not_leader = "FailedPrecondition: etcdserver: not leader";
            refused(move_leader(&members[follower], ids[follower]).await, not_leader);
            let bad = "FailedPrecondition: etcdserver: bad leader transferee";
            refused(move_leader(&members[place], 12345).await, bad);
            let answer = move_leader(&members[place], leader_id).await.expect("nothing to do");
            assert!(answer.header.is_none(), "{answer:?}");
            move_leader(&members[place], ids[follower]).await.expect("a new leader");
            assert_eq!(leader(&members[place]).await, ids[follower]);
        }
    });
}

/// What a member must know after it was killed: hash, revision, leases and their keys.
async fn known(client: &mut Client) -> String {
    let hash = answer(client.maintenance.hash_kv(pb::HashKvRequest { revision: 0 }).await).expect("a hash");
    let mut asked = Vec::new();
    let leases = answer(client.lease.lease_leases(pb::LeaseLeasesRequest {}).await).expect("leases").leases;
    for lease in leases {
        let time = pb::LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let mut life = answer(client.lease.lease_time_to_live(time).await).expect("a life");
        life.keys.sort();
        asked.push((life.id, life.granted_ttl, life.keys));
    }
    asked.sort();
    let hash = (hash.hash, hash.hash_revision, hash.compact_revision);
    format!("{hash:?} {asked:?} {:?}", client.get("a").await)
}

#[test]
fn probe_24_what_was_acknowledged_survives_a_kill() {
    ask_both(async |client| {
        client.grant(7, 1000).await.expect("a lease");
        client.grant(-7, 2000).await.expect("a lease");
        for round in 0..5 {
            for key in ["a", "b", "c"] {
                let lease = if key == "b" { 0 } else { 7 };
                let put = pb::PutRequest {
                    key: bytes(key),
                    value: bytes(&round.to_string()),
                    lease,
                    ..Default::default()
                };
                client.try_put(put).await.expect("a put");
            }
            client.delete("b", "").await;
            if round == 2 {
                client.compact(7).await.expect("a compaction");
            }
            let before = known(client).await;
            client.server.restart().await;
            assert_eq!(known(client).await, before, "in round {round}");
        }
    });
}
