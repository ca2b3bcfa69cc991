//! Calls that wait: for a lock, for an office, for a change of leader.
//!
//! A call that would wait is started on both servers; when its key stands in line on both, the script ends
//! the wait, and the two answers are compared. Nothing else is asked meanwhile, so the store's revision is
//! known at every point.
//!
//! Keys in line end with the id of a lease. One whose id the server chose sorts differently on either
//! server, so such leases have a name of their own, [`GIVEN_NAME`], and only one of them stands in line.

use bytes::Bytes;
use detcd::proto::v3electionpb::election_client::ElectionClient;
use detcd::proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse};
use detcd::proto::v3lockpb::LockRequest;
use futures::future::join;
use tokio::task::JoinHandle;
use tonic::Streaming;

use crate::call::{Answer, Call, PATIENCE};
use crate::normal::{Identity, Normal};
use crate::pair::{Mismatch, Pair, Side};
use crate::step::{Campaign, Ending, Leader, Lock, Observe, Put, Range, Step};
use crate::text::{Lease, Text};

/// The name under which leases stand in line whose ids the servers chose.
pub const GIVEN_NAME: &[u8] = b"g";

/// Between two looks at whether a call waits.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// The name that the lease may use, and whether it may be used at all.
fn name_for(name: &Text, lease: Lease) -> Option<Bytes> {
    match lease {
        Lease::Given(0) => Some(Bytes::from_static(GIVEN_NAME)),
        Lease::Given(_) => None,
        Lease::Id(_) => Some(name.bytes()),
    }
}

fn prefix_of(name: &Bytes) -> Bytes {
    [name, &b"/"[..]].concat().into()
}

/// The key of a lease in a line.
fn key_of(name: &Bytes, lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [name, format!("/{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// A call in a task of its own.
fn start(side: &Side, call: Call) -> JoinHandle<Answer> {
    let (channel, mut identity) = (side.channel.clone(), side.identity.clone());
    tokio::spawn(async move { call.ask(&channel, &mut identity).await })
}

async fn answer_of(task: JoinHandle<Answer>) -> Answer {
    task.await.expect("it does not panic")
}

/// A call that stands in line, or is about to, on detcd and on etcd.
struct Waiting {
    what: String,
    prefix: Bytes,
    /// The keys before its own.
    in_front: Vec<Bytes>,
    lease: Lease,
    keys: [Bytes; 2],
    tasks: (JoinHandle<Answer>, JoinHandle<Answer>),
}

impl Pair {
    /// Calls for a lock, and ends the wait if there is one.
    pub async fn lock(&mut self, lock: &Lock) -> Result<(), Mismatch> {
        let call = |name: Bytes, lease| Call::Lock(LockRequest { name, lease });
        self.stand_in_line(format!("{lock:?}"), &lock.name, lock.lease, lock.end, &call).await
    }

    /// The same for an office.
    pub async fn campaign(&mut self, campaign: &Campaign) -> Result<(), Mismatch> {
        let value = campaign.value.bytes();
        let call = |name: Bytes, lease| Call::Campaign(CampaignRequest { name, lease, value: value.clone() });
        self.stand_in_line(format!("{campaign:?}"), &campaign.name, campaign.lease, campaign.end, &call).await
    }

    async fn stand_in_line(
        &mut self,
        what: String,
        name: &Text,
        lease: Lease,
        end: Ending,
        call: &dyn Fn(Bytes, i64) -> Call,
    ) -> Result<(), Mismatch> {
        let chosen_by_call = lease == Lease::Id(0);
        let name = if chosen_by_call { Some(Bytes::from_static(GIVEN_NAME)) } else { name_for(name, lease) };
        let Some(name) = name.filter(|_| !chosen_by_call || self.etcd.identity.given.is_empty()) else {
            return Ok(());
        };
        let prefix = prefix_of(&name);
        let line = self.etcd.line(&prefix).await;
        let ids = [&self.detcd, &self.etcd].map(|side| self.meaning(&side.identity).lease(lease));
        let own = key_of(&name, ids[1]);
        let calls = ids.map(|id| call(name.clone(), id));
        if line.first().is_none_or(|first| first.key == own) {
            let [detcd, etcd] = calls;
            return self.both(what, (detcd, etcd)).await.map(drop);
        }
        if chosen_by_call || line.iter().any(|record| record.key == own) {
            // Nothing would show that the call has begun to wait.
            return Ok(());
        }
        let [detcd, etcd] = calls;
        self.past.note_keys(&etcd);
        let tasks = (start(&self.detcd, detcd), start(&self.etcd, etcd));
        let in_front = line.into_iter().map(|record| record.key).collect();
        let keys = ids.map(|id| key_of(&name, id));
        let waiting = Waiting { what, prefix, in_front, lease, keys, tasks };
        self.end_waiting(waiting, end).await
    }

    /// Waits until a call waits on both servers, and ends that.
    async fn end_waiting(&mut self, waiting: Waiting, end: Ending) -> Result<(), Mismatch> {
        let Waiting { what, prefix, in_front, lease, keys, tasks } = waiting;
        let stands = join(
            stands(&self.detcd, &keys[0], &prefix, &tasks.0),
            stands(&self.etcd, &keys[1], &prefix, &tasks.1),
        )
        .await;
        if stands != (true, true) {
            // It failed at once, or ended otherwise.
            let answers = join(answer_of(tasks.0), answer_of(tasks.1)).await;
            return self.compare(what, "wait", answers.0, answers.1).map(drop);
        }
        match end {
            Ending::CallerGone => {
                tasks.0.abort();
                tasks.1.abort();
                join(gone(&self.detcd, &keys[0], &prefix), gone(&self.etcd, &keys[1], &prefix)).await;
                return self.simple(&Step::Range(whole_line(&prefix))).await.map(drop);
            }
            Ending::OwnKeyDeleted => {
                let [detcd, etcd] = keys.map(Call::Unlock);
                self.both(format!("the deletion of the key of {what}"), (detcd, etcd)).await?;
            }
            Ending::OwnLeaseRevoked => {
                self.simple(&Step::Revoke(lease)).await?;
            }
            Ending::Turn => {}
        }
        for key in &in_front {
            self.simple(&Step::Unlock(Text::from(&key[..]))).await?;
        }
        let (detcd, etcd) = join(answer_of(tasks.0), answer_of(tasks.1)).await;
        self.compare(format!("{what}, after waiting"), "wait", detcd, etcd).map(drop)
    }

    /// Says something as a leader, or leaves.
    pub async fn proclaim(&mut self, leader: &Leader, resigns: bool) -> Result<(), Mismatch> {
        let Some(name) = name_for(&leader.name, leader.lease) else { return Ok(()) };
        if leader.lease == Lease::Id(0) {
            // A lease of the server's choice for every such call: nothing new to see.
            return Ok(());
        }
        let line = self.etcd.line(&prefix_of(&name)).await;
        let ids = [&self.detcd, &self.etcd].map(|side| self.meaning(&side.identity).lease(leader.lease));
        let own = key_of(&name, ids[1]);
        let created = line.iter().find(|record| record.key == own).map_or(0, |record| record.create_revision);
        let calls = ids.map(|lease| {
            let rev = created.saturating_sub(leader.behind);
            let named = LeaderKey { name: name.clone(), key: key_of(&name, lease), rev, lease };
            if resigns {
                Call::Resign(Some(named))
            } else {
                Call::Proclaim(Some(named), leader.value.bytes())
            }
        });
        let [detcd, etcd] = calls;
        self.both(format!("{leader:?}"), (detcd, etcd)).await.map(drop)
    }

    /// Listens to an election: the leader of now, or the first to come, and its next word.
    pub async fn observe(&mut self, observe: &Observe) -> Result<(), Mismatch> {
        let (name, what) = (observe.name.bytes(), format!("{observe:?}"));
        let Some(lease) = Some(observe.lease).filter(|lease| matches!(lease, Lease::Id(id) if *id != 0))
        else {
            return Ok(());
        };
        let prefix = prefix_of(&name);
        let mut streams = (observation(&self.detcd, &name), observation(&self.etcd, &name));
        if self.etcd.line(&prefix).await.is_empty() {
            let campaign = Campaign { name: observe.name.clone(), lease, ..Campaign::default() };
            self.campaign(&campaign).await?;
        }
        let Some(first) = self.etcd.line(&prefix).await.into_iter().next() else { return Ok(()) };
        let heard =
            join(streams.0.next(&mut self.detcd.identity), streams.1.next(&mut self.etcd.identity)).await;
        self.compare(what.clone(), "Observe", heard.0, heard.1)?;
        let put = Put {
            key: Text::from(&first.key[..]),
            value: Text::from(&b"word"[..]),
            ignore_lease: true,
            ..Put::default()
        };
        if self.simple(&Step::Put(put)).await?.is_ok {
            let heard =
                join(streams.0.next(&mut self.detcd.identity), streams.1.next(&mut self.etcd.identity)).await;
            self.compare(format!("{what}, the next word"), "Observe", heard.0, heard.1)?;
        }
        Ok(())
    }
}

/// Whether a key stands in line on a server, as soon as it does; not, when its call ends before.
async fn stands(side: &Side, key: &Bytes, prefix: &Bytes, task: &JoinHandle<Answer>) -> bool {
    loop {
        if side.line(prefix).await.iter().any(|record| record.key == *key) {
            return true;
        }
        if task.is_finished() {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until a key has left its line.
async fn gone(side: &Side, key: &Bytes, prefix: &Bytes) {
    let waiting = async {
        while side.line(prefix).await.iter().any(|record| record.key == *key) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    // A key that stays shows in the comparison that follows.
    let _ = tokio::time::timeout(PATIENCE, waiting).await;
}

fn whole_line(prefix: &Bytes) -> Range {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("a prefix") += 1;
    Range { key: Text::from(&prefix[..]), range_end: Text(end), ..Range::default() }
}

/// A stream of what an election's leaders say, opened when the first word comes.
struct Observation {
    opening: JoinHandle<Result<tonic::Response<Streaming<LeaderResponse>>, tonic::Status>>,
    stream: Option<Streaming<LeaderResponse>>,
}

fn observation(side: &Side, name: &Bytes) -> Observation {
    let (mut client, name) = (ElectionClient::new(side.channel.clone()), name.clone());
    let opening = tokio::spawn(async move { client.observe(LeaderRequest { name }).await });
    Observation { opening, stream: None }
}

impl Observation {
    async fn next(&mut self, of: &mut Identity) -> Answer {
        let word = tokio::time::timeout(PATIENCE, self.word()).await;
        match word {
            Ok(Ok(Some(mut word))) => {
                word.normalise(of);
                Answer { lines: vec![format!("{word:?}")], revision: word.revision(), is_ok: true }
            }
            Ok(Ok(None)) => Answer::silence("the stream ended"),
            Ok(Err(status)) => Answer::silence(&format!("{:?}: {}", status.code(), status.message())),
            Err(_) => Answer::silence("no word"),
        }
    }

    async fn word(&mut self) -> Result<Option<LeaderResponse>, tonic::Status> {
        if self.stream.is_none() {
            let opened = (&mut self.opening).await.expect("it does not panic")?;
            self.stream = Some(opened.into_inner());
        }
        self.stream.as_mut().expect("it was opened").message().await
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.opening.abort();
    }
}
