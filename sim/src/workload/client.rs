//! A client: one call after the other.

use std::time::Duration;

use detcd::proto::etcdserverpb as pb;
use detcd::rt;
use rand::Rng;

use super::generate::{Generator, Learnt};
use super::{Recorder, Workload, ask, call_in_time};
use crate::history::{MemberNumber, Outcome, Request};
use crate::random::{Draw, Random};
use crate::world::World;

/// Asks whoever leads to hand over to a member. That nobody leads, or that it does not work out, is no
/// fault of anybody.
pub async fn move_leader(world: &World, to: MemberNumber) {
    let (Some(leader), Some(target)) = (world.monitor().leader(), world.monitor().id_of(to)) else { return };
    let request = Request::MoveLeader(pb::MoveLeaderRequest { target_id: target });
    ask(world, leader, &request, Duration::from_secs(5)).await;
}

/// Runs a client to its last call.
pub async fn run_client(
    world: World,
    recorder: Recorder,
    learnt: Learnt,
    workload: Workload,
    client: u32,
    mut random: Random,
) {
    let mut generator = Generator::new(client, workload.clone(), learnt);
    let mut member: MemberNumber = random.random_range(1..=world.size());
    for _ in 0..workload.calls {
        if world.work_is_over() {
            return;
        }
        if random.percent(workload.roaming_percent) {
            member = random.random_range(1..=world.size());
        }
        let request = generator.next(&mut random);
        let number = recorder.called(client, member, request.clone());
        let patience = Duration::from_millis(workload.patience_ms);
        let outcome = call_in_time(&world, client, member, &request, patience).await;
        generator.learn(&request, &outcome);
        let failed = !matches!(outcome, Outcome::Answered(_) | Outcome::Failed(_));
        recorder.returned(number, outcome);
        if failed {
            // As clients do: try another member, after a while.
            member = random.random_range(1..=world.size());
            rt::sleep(Duration::from_millis(random.random_range(20..=300))).await;
        }
        let pause = random.random_range(0..=workload.pause_ms);
        if pause > 0 {
            rt::sleep(Duration::from_millis(pause)).await;
        }
    }
}
