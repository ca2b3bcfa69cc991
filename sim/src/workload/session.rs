//! Clients that live by sessions: a lease that somebody keeps alive, or nobody does, and with it a place in
//! line for a lock or in an election.
//!
//! ```text
//!   grant a lease --> Lock -----> write fenced --> Unlock | revoke | walk away
//!        |       '--> Campaign -> Proclaim ... --> Resign | revoke | walk away
//!        '- kept alive by a second client, or not: then it may run out in line
//! ```
//!
//! Each client has sessions of its own, one after the other. Observers listen to elections.

use std::time::Duration;

use bytes::Bytes;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::v3electionpb::election_client::ElectionClient;
use detcd::proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use detcd::proto::v3lockpb::{LockRequest, UnlockRequest};
use detcd::rt;
use detcd::rt::sync::oneshot;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Operation;
use rand::Rng;

use super::{Recorder, Workload, call_in_time};
use crate::history::{Answer, MemberNumber, Outcome, Request};
use crate::random::{Draw, Random};
use crate::world::World;

/// The client that keeps a session of client `n` alive is client `n` and so many.
const KEEPER: u32 = 100;

/// Time between two renewals of a session, in milliseconds.
const RENEWAL_MS: u64 = 400;

/// The name of a lock.
fn lock_name(number: u32) -> Bytes {
    format!("lock/{number}").into()
}

/// The name of an election.
fn election_name(number: u32) -> Bytes {
    format!("vote/{number}").into()
}

/// A client of sessions.
struct Client {
    world: World,
    recorder: Recorder,
    workload: Workload,
    number: u32,
    member: MemberNumber,
    random: Random,
    values: u64,
    /// What it was once told to lead by.
    once: Option<LeaderKey>,
}

/// Runs a client of sessions until the work is over.
pub async fn run_session(world: World, recorder: Recorder, workload: Workload, number: u32, random: Random) {
    let mut client = Client { world, recorder, workload, number, member: 1, random, values: 0, once: None };
    while !client.world.work_is_over() {
        client.member = client.random.random_range(1..=client.world.size());
        client.session().await;
        client.pause(300).await;
    }
}

impl Client {
    async fn session(&mut self) {
        let Some(lease) = self.lease().await else { return };
        let keeper = (lease != 0 && self.random.percent(60)).then(|| self.keep(lease));
        if self.random.percent(50) {
            self.hold_lock(lease).await;
        } else {
            self.lead(lease).await;
        }
        drop(keeper);
    }

    /// A lease of its own; 0 for one that the server grants by itself.
    async fn lease(&mut self) -> Option<i64> {
        if self.random.percent(5) {
            return Some(0);
        }
        let ttl = self.random.random_range(1..=3);
        let grant = Request::LeaseGrant(pb::LeaseGrantRequest { ttl, id: 0 });
        match self.call(grant, 2000).await {
            Outcome::Answered(Answer::LeaseGrant(answer)) => Some(answer.id),
            _ => None,
        }
    }

    /// Keeps a lease alive until what it returns is dropped.
    fn keep(&mut self, lease: i64) -> oneshot::Sender<()> {
        let (stop, mut stopped) = oneshot::channel();
        let (world, recorder) = (self.world.clone(), self.recorder.clone());
        let (client, size) = (self.number + KEEPER, self.world.size());
        let mut member = self.member;
        self.world.spawn_client(client, async move {
            loop {
                rt::select! {
                    _ = &mut stopped => return,
                    () = rt::sleep(Duration::from_millis(RENEWAL_MS)) => {}
                }
                if world.work_is_over() {
                    return;
                }
                let request = Request::LeaseKeepAlive(lease);
                let outcome = recorded(&world, &recorder, client, member, request, 800).await;
                if !matches!(outcome, Outcome::Answered(_)) {
                    member = member % size + 1;
                }
            }
        });
        stop
    }

    /// Waits for a lock, writes what only its holder may write, and lets it go in one way or another.
    async fn hold_lock(&mut self, lease: i64) {
        let name = lock_name(self.random.random_range(0..self.workload.lines));
        let lock = Request::Lock(LockRequest { name, lease });
        let Outcome::Answered(Answer::Lock(held)) = self.call_for_turn(lock.clone()).await else { return };
        if self.random.percent(15) {
            // Who has it already gets it again.
            self.call_for_turn(lock).await;
        }
        let compare = pb::Compare {
            result: CompareResult::Greater as i32,
            target: CompareTarget::Create as i32,
            key: held.key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Default::default()
        };
        let put = pb::PutRequest {
            key: Bytes::from_static(b"k/fenced"),
            value: self.value(),
            ..Default::default()
        };
        let success = vec![pb::RequestOp { request: Some(Operation::RequestPut(put)) }];
        self.call(
            Request::Txn(pb::TxnRequest { compare: vec![compare], success, failure: Vec::new() }),
            2000,
        )
        .await;
        self.pause(600).await;
        match self.random.random_range(0..10) {
            0..6 => drop(self.call(Request::Unlock(UnlockRequest { key: held.key }), 2000).await),
            other => self.end(lease, other).await,
        }
    }

    /// Campaigns, speaks as a leader, and stops to lead in one way or another.
    async fn lead(&mut self, lease: i64) {
        let name = election_name(self.random.random_range(0..self.workload.lines));
        if self.random.percent(30) {
            self.call(Request::Leader(LeaderRequest { name: name.clone() }), 2000).await;
        }
        if self.random.percent(20) {
            // Once it led, perhaps; or it does not even say as whom it speaks.
            let leader = self.once.take();
            let proclaim = ProclaimRequest { leader, value: self.value() };
            self.call(Request::Proclaim(proclaim), 2000).await;
        }
        let mut leader = None;
        for _ in 0..2 {
            // A second try, with another word, finds the place where it stood.
            let campaign = CampaignRequest { name: name.clone(), lease, value: self.value() };
            match self.call_for_turn(Request::Campaign(campaign)).await {
                Outcome::Answered(Answer::Campaign(answer)) => {
                    leader = answer.leader;
                    break;
                }
                _ if self.random.percent(50) => break,
                _ => {}
            }
        }
        let Some(leader) = leader else { return };
        self.once = Some(leader.clone());
        if self.random.percent(25) {
            // Who leads campaigns once more: it goes on with another word.
            let campaign = CampaignRequest { name, lease: leader.lease, value: self.value() };
            self.call_for_turn(Request::Campaign(campaign)).await;
        }
        for _ in 0..self.random.random_range(0..=3) {
            let proclaim = ProclaimRequest { leader: Some(leader.clone()), value: self.value() };
            self.call(Request::Proclaim(proclaim), 2000).await;
            self.pause(200).await;
        }
        match self.random.random_range(0..10) {
            0..6 => {
                let resign = ResignRequest { leader: Some(leader) };
                self.call(Request::Resign(resign), 2000).await;
            }
            other => self.end(lease, other).await,
        }
    }

    /// Ends a session by its lease: revoked, or left to run out.
    async fn end(&mut self, lease: i64, draw: u32) {
        if draw < 8 && lease != 0 {
            self.call(Request::LeaseRevoke(pb::LeaseRevokeRequest { id: lease }), 2000).await;
        }
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        format!("s{}-{}", self.number, self.values).into()
    }

    /// Waits for its turn as long as it likes.
    async fn call_for_turn(&mut self, request: Request) -> Outcome {
        let patience = self.random.log_uniform(200, 6000);
        self.call(request, patience).await
    }

    async fn pause(&mut self, most: u64) {
        rt::sleep(Duration::from_millis(self.random.random_range(1..=most))).await;
    }

    async fn call(&mut self, request: Request, patience: u64) -> Outcome {
        let (world, recorder) = (&self.world, &self.recorder);
        let outcome = recorded(world, recorder, self.number, self.member, request, patience).await;
        if matches!(outcome, Outcome::Unknown(_)) {
            self.member = self.random.random_range(1..=self.world.size());
        }
        outcome
    }
}

async fn recorded(
    world: &World,
    recorder: &Recorder,
    client: u32,
    member: MemberNumber,
    request: Request,
    patience: u64,
) -> Outcome {
    let number = recorder.called(client, member, request.clone());
    let outcome = call_in_time(world, client, member, &request, Duration::from_millis(patience)).await;
    recorder.returned(number, outcome.clone());
    outcome
}

/// Observes elections, each for a while, until the world ends.
pub async fn run_observer(
    world: World,
    recorder: Recorder,
    workload: Workload,
    client: u32,
    mut random: Random,
) {
    while !world.watching_is_over() {
        let member = random.random_range(1..=world.size());
        let name = election_name(random.random_range(0..workload.lines));
        let span = Duration::from_millis(random.log_uniform(200, 8000));
        observe(&world, &recorder, client, member, name, span).await;
        rt::sleep(Duration::from_millis(100)).await;
    }
}

/// Observes one election: for so long, or to the end when that is near.
async fn observe(
    world: &World,
    recorder: &Recorder,
    client: u32,
    member: MemberNumber,
    name: Bytes,
    span: Duration,
) {
    let number = recorder.observes(client, member, name.clone());
    let mut stub = ElectionClient::new(world.channel(client, member));
    let mut enough = Box::pin(rt::sleep(span));
    let mut has_enough = false;
    let mut words = None;
    loop {
        if has_enough && !world.must_hold_still() {
            break;
        }
        // One future for both steps, so that leaving ends whichever is under way.
        let next = async {
            if words.is_none() {
                words = Some(stub.observe(LeaderRequest { name: name.clone() }).await?.into_inner());
            }
            match &mut words {
                Some(words) => words.message().await,
                None => Ok(None),
            }
        };
        let word = rt::select! {
            word = next => word,
            () = world.watching_over() => return,
            () = &mut enough, if !has_enough => {
                has_enough = true;
                continue;
            }
        };
        match word {
            Ok(Some(word)) => recorder.observed(number, Some(word)),
            Ok(None) | Err(_) => break,
        }
    }
    recorder.observed(number, None);
}
