//! One detcd and one etcd that are asked the same, step by step, and must answer alike.
//!
//! Both get every request from the start, so their revisions are equal and are compared. A sequence begins
//! with an empty key space and without leases, alarms and watchers; history and the last compaction stay
//! from one sequence to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use detcd::client::Channel;
use detcd::proto::KeyValue;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::kv_client::KvClient;
use futures::future::join;

use crate::call::{Answer, Call, SILENCE};
use crate::differences::{self, Past};
use crate::normal::Identity;
use crate::process::{Kind, Server};
use crate::step::{CancelWatch, Compact, Delete, Grant, Put, Range, Step, Watch};
use crate::text::{Lease, Meaning, Member, Revision, Text};
use crate::watch::{Stream, Watchers};

/// Watch streams that a sequence may open.
pub const STREAMS: usize = 2;

/// A watcher that waits for a revision so far ahead is ended rather than served at the end of a sequence.
const FAR_AHEAD: i64 = 12;

/// How often, and between which pauses, it is looked whether etcd has removed what is compacted.
const REMOVAL_LOOKS: usize = 200;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// Leases of a life shorter than this do not outlive their step, so that none runs out on its own. Seconds.
const SHORT_LIFE: i64 = 50;

/// The two servers answered differently.
#[derive(Debug)]
pub struct Mismatch {
    /// The method, or what stands for one.
    pub method: String,
    what: String,
    detcd: Vec<String>,
    etcd: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "different answers to {}", self.what)?;
        let first = self.detcd.iter().zip(&self.etcd).take_while(|(detcd, etcd)| detcd == etcd).count();
        if first > 0 {
            writeln!(f, "  after {first} equal lines")?;
        }
        for (name, lines) in [("detcd", &self.detcd), ("etcd", &self.etcd)] {
            for line in lines.iter().skip(first).take(12) {
                writeln!(f, "  {name:>5}: {line}")?;
            }
            if lines.len() <= first {
                writeln!(f, "  {name:>5}: nothing more")?;
            }
        }
        Ok(())
    }
}

/// Whether there is no answer, or not the whole one.
fn is_silent(lines: &[String]) -> bool {
    lines.iter().any(|line| line.starts_with(SILENCE))
}

/// One of the two servers.
pub struct Side {
    server: Server,
    pub channel: Channel,
    pub identity: Identity,
    over_http: bool,
    streams: Vec<Option<Stream>>,
}

impl Side {
    async fn start(kind: Kind, flags: &[&str]) -> Self {
        let server = Server::start(kind, flags).await;
        let (channel, identity) = (server.channel(), server.identity().await);
        Self { server, channel, identity, over_http: false, streams: (0..STREAMS).map(|_| None).collect() }
    }

    async fn restart(&mut self) {
        self.server.restart().await;
        self.channel = self.server.channel();
    }

    async fn ask(&mut self, call: Call) -> Answer {
        if self.over_http
            && let Some(answer) = call.ask_over_http(self.server.address(), &mut self.identity).await
        {
            return answer;
        }
        call.ask(&self.channel, &mut self.identity).await
    }

    fn stream(&mut self, number: usize) -> &mut Stream {
        let channel = self.server.channel();
        self.streams[number].get_or_insert_with(|| Stream::open(&channel))
    }

    /// The records below a prefix in the order of their creation, as the server says them.
    pub async fn line(&self, prefix: &Bytes) -> Vec<KeyValue> {
        let mut end = prefix.to_vec();
        // The prefixes that are asked for end with a slash.
        *end.last_mut().expect("a prefix") += 1;
        let range = pb::RangeRequest {
            key: prefix.clone(),
            range_end: end.into(),
            sort_order: pb::range_request::SortOrder::Ascend as i32,
            sort_target: pb::range_request::SortTarget::Create as i32,
            ..pb::RangeRequest::default()
        };
        let answer = KvClient::new(self.channel.clone()).range(range).await.expect("a range");
        answer.into_inner().kvs.iter().map(|record| record.decode().expect("a record")).collect()
    }
}

/// The two servers, and what is known about both.
pub struct Pair {
    pub detcd: Side,
    pub etcd: Side,
    pub past: Past,
    watchers: Vec<Watchers>,
    alarms: bool,
    leases: BTreeSet<i64>,
    /// Up to this revision there may be records with ids that the servers chose.
    chosen_until: i64,
    /// A compaction was not waited for.
    removes_behind: bool,
    /// Requests that both have answered.
    pub requests: usize,
    /// How often a difference was let pass.
    pub passed: BTreeMap<&'static str, usize>,
}

impl Pair {
    /// Starts both on empty folders, detcd with more flags if there are any.
    pub async fn start(flags: &[&str]) -> Self {
        let (detcd, etcd) = join(Side::start(Kind::Detcd, flags), Side::start(Kind::Etcd, &[])).await;
        Self {
            detcd,
            etcd,
            past: Past::new(),
            watchers: vec![Watchers::default(); STREAMS],
            alarms: false,
            leases: BTreeSet::new(),
            chosen_until: 0,
            removes_behind: false,
            requests: 0,
            passed: BTreeMap::new(),
        }
    }

    /// Runs a sequence, from an empty key space to a comparison of all that it left.
    ///
    /// # Errors
    /// The first difference. The two servers may not be in the same state then.
    pub async fn run(&mut self, steps: &[Step]) -> Result<(), Mismatch> {
        self.clear().await?;
        for step in steps {
            self.step(step).await?;
        }
        self.finish().await
    }

    pub fn meaning<'a>(&self, identity: &'a Identity) -> Meaning<'a> {
        Meaning {
            revision: self.past.revision,
            compacted: self.past.compacted,
            given: &identity.given,
            member: identity.member,
        }
    }

    /// Empties the key space and revokes all leases.
    async fn clear(&mut self) -> Result<(), Mismatch> {
        self.detcd.over_http = false;
        self.etcd.over_http = false;
        let all = Text::from(&b"\0"[..]);
        self.step(&Step::Delete(Delete { key: all.clone(), range_end: all, prev_kv: true })).await?;
        for id in std::mem::take(&mut self.leases) {
            self.step(&Step::Revoke(Lease::Id(id))).await?;
        }
        let given = self.etcd.identity.given.len();
        for number in 0..given {
            self.step(&Step::Revoke(Lease::Given(number))).await?;
        }
        let had_many = self.past.has_many_keys();
        self.past.keys.clear();
        if given > 0 || had_many {
            // Nothing of it must be read in the past, nor a watch from the compaction on see it go.
            let key = Text::from(&b"a"[..]);
            self.step(&Step::Put(Put { key: key.clone(), ..Put::default() })).await?;
            self.chosen_until = self.past.revision;
            for side in [&mut self.detcd, &mut self.etcd] {
                side.identity.given.clear();
                side.identity.hash_differs = true;
            }
            self.step(&Step::Compact(Compact { revision: Revision::Now(0), physical: true })).await?;
            self.step(&Step::Delete(Delete { key, ..Delete::default() })).await?;
        }
        Ok(())
    }

    /// Ends what is still open, and compares all that is left.
    async fn finish(&mut self) -> Result<(), Mismatch> {
        if self.alarms {
            for (member, alarm) in [Member::None, Member::Own, Member::Unknown]
                .into_iter()
                .flat_map(|member| [(member, 1), (member, 2)])
            {
                let disarm = crate::step::Alarm { action: 2, member, alarm };
                self.step(&Step::Alarm(disarm)).await?;
            }
            self.alarms = false;
        }
        let reachable = self.past.revision + FAR_AHEAD;
        for number in 0..STREAMS {
            for id in self.watchers[number].in_the_way(reachable) {
                self.cancel(number, id).await?;
            }
        }
        let last_start = self.watchers.iter().map(Watchers::last_start).max().unwrap_or(0);
        while self.past.revision < last_start {
            let put = Put { key: Text::from(&b"b"[..]), prev_kv: true, ..Put::default() };
            self.step(&Step::Put(put)).await?;
        }
        for number in 0..STREAMS {
            self.settle(number).await?;
            self.watchers[number] = Watchers::default();
            self.detcd.streams[number] = None;
            self.etcd.streams[number] = None;
        }
        let all = Text::from(&b"\0"[..]);
        self.step(&Step::Range(Range { key: all.clone(), range_end: all, ..Range::default() })).await?;
        self.step(&Step::Leases).await?;
        self.step(&Step::HashKv(Revision::At(0))).await
    }

    async fn step(&mut self, step: &Step) -> Result<(), Mismatch> {
        match step {
            Step::Next => {
                Box::pin(self.finish()).await?;
                Box::pin(self.clear()).await
            }
            Step::OverHttp => {
                self.detcd.over_http = true;
                self.etcd.over_http = true;
                Ok(())
            }
            Step::Restart => {
                Box::pin(self.finish()).await?;
                join(self.detcd.restart(), self.etcd.restart()).await;
                Box::pin(self.finish()).await
            }
            Step::Watch(watch) => self.watch(watch).await,
            Step::CancelWatch(CancelWatch { stream, watch_id }) => {
                let stream = *stream % STREAMS;
                if self.watchers[stream].has(*watch_id) {
                    self.settle_after_clearing(stream).await?;
                }
                if self.watchers[stream].has(*watch_id) {
                    return self.cancel(stream, *watch_id).await;
                }
                self.detcd.stream(stream).cancel_nobody(*watch_id);
                self.etcd.stream(stream).cancel_nobody(*watch_id);
                Ok(())
            }
            Step::Progress(stream) => self.progress(*stream % STREAMS).await,
            Step::Lock(lock) => self.lock(lock).await,
            Step::Campaign(campaign) => self.campaign(campaign).await,
            Step::Proclaim(leader) => self.proclaim(leader, false).await,
            Step::Resign(leader) => self.proclaim(leader, true).await,
            Step::Observe(observe) => self.observe(observe).await,
            Step::HashKv(_) => self.hash(step).await,
            Step::Compact(compact) => {
                for stream in 0..STREAMS {
                    self.settle_after_clearing(stream).await?;
                }
                self.removes_behind |= !compact.physical;
                self.simple(step).await.map(drop)
            }
            Step::Grant(grant) => {
                // Few, so that scripts can name them; see `waiting` for why.
                if grant.id == 0 && self.etcd.identity.given.len() >= 2 {
                    return Ok(());
                }
                let answer = self.simple(step).await?;
                self.granted(grant, &answer).await
            }
            step => self.simple(step).await.map(drop),
        }
    }

    /// A step that is one request and one answer.
    pub async fn simple(&mut self, step: &Step) -> Result<Answer, Mismatch> {
        let call = |pair: &Self, side: &Side| {
            step.call(&pair.meaning(&side.identity)).expect("a step of one request")
        };
        let calls = (call(self, &self.detcd), call(self, &self.etcd));
        if !self.past.allows(&calls.1) {
            return Ok(Answer::default());
        }
        match &calls.1 {
            Call::Alarm(_) => self.alarms = true,
            Call::LeaseGrant(grant) if grant.id != 0 => {
                self.leases.insert(grant.id);
            }
            Call::LeaseRevoke(revoke) => {
                self.leases.remove(&revoke.id);
            }
            _ => {}
        }
        let compacted = match &calls.1 {
            Call::Compact(compact) => Some(compact.revision),
            _ => None,
        };
        let changes_twice = matches!(&calls.1, Call::Txn(txn) if differences::may_change_twice(txn));
        let answer = self.both(format!("{step:?}"), calls).await?;
        if changes_twice && answer.is_ok {
            self.past.changed_twice.insert(self.past.revision);
        }
        if let Some(compacted) = compacted.filter(|_| answer.is_ok) {
            self.past.compacted = compacted;
            if compacted >= self.chosen_until {
                self.detcd.identity.hash_differs = false;
                self.etcd.identity.hash_differs = false;
            }
        }
        Ok(answer)
    }

    /// Asks both and compares what they say.
    pub async fn both(&mut self, what: String, calls: (Call, Call)) -> Result<Answer, Mismatch> {
        let method = calls.1.name();
        self.past.note_keys(&calls.1);
        let (detcd, etcd) = join(self.detcd.ask(calls.0), self.etcd.ask(calls.1)).await;
        self.compare(what, method, detcd, etcd)
    }

    /// Compares two answers, and takes the store's revision from them.
    pub fn compare(
        &mut self,
        what: String,
        method: &str,
        detcd: Answer,
        etcd: Answer,
    ) -> Result<Answer, Mismatch> {
        self.requests += 1;
        let silent = is_silent(&etcd.lines);
        if detcd != etcd || silent {
            match differences::meant(method, &detcd, &etcd) {
                Some(difference) if !silent => *self.passed.entry(difference.name).or_default() += 1,
                _ => {
                    let method = method.to_owned();
                    return Err(Mismatch { method, what, detcd: detcd.lines, etcd: etcd.lines });
                }
            }
        }
        self.past.revision = self.past.revision.max(etcd.revision.unwrap_or(0));
        if !self.etcd.identity.given.is_empty() {
            // From now on there may be records that differ by the ids that the servers chose.
            self.chosen_until = i64::MAX;
            self.detcd.identity.hash_differs = true;
            self.etcd.identity.hash_differs = true;
        }
        Ok(etcd)
    }

    fn same(&mut self, what: String, detcd: Vec<String>, etcd: Vec<String>) -> Result<(), Mismatch> {
        self.requests += 1;
        if detcd == etcd && !is_silent(&etcd) {
            return Ok(());
        }
        Err(Mismatch { method: "Watch".to_owned(), what, detcd, etcd })
    }

    async fn granted(&mut self, grant: &Grant, answer: &Answer) -> Result<(), Mismatch> {
        if !answer.is_ok {
            return Ok(());
        }
        if grant.ttl < SHORT_LIFE {
            let given = self.etcd.identity.given.len();
            let lease =
                if grant.id == 0 { Lease::Given(given.saturating_sub(1)) } else { Lease::Id(grant.id) };
            self.simple(&Step::Revoke(lease)).await?;
        }
        Ok(())
    }

    /// While etcd still removes what is compacted, and nothing else is alive, its hash counts what is left to
    /// remove.
    async fn hash(&mut self, step: &Step) -> Result<(), Mismatch> {
        for _ in 1..REMOVAL_LOOKS {
            if !self.removes_behind {
                break;
            }
            if self.simple(step).await.is_ok() {
                self.removes_behind = false;
                return Ok(());
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        self.simple(step).await.map(drop)
    }

    async fn watch(&mut self, watch: &Watch) -> Result<(), Mismatch> {
        let number = watch.stream % STREAMS;
        let request = watch.request(&self.meaning(&self.etcd.identity));
        let start = request.start_revision;
        let is_compacted = start > 0 && start < self.past.compacted;
        let (of_detcd, of_etcd) = (self.detcd.identity.clone(), self.etcd.identity.clone());
        let (detcd, etcd) = join(
            self.detcd.stream(number).create(request.clone(), is_compacted, &of_detcd),
            self.etcd.stream(number).create(request, is_compacted, &of_etcd),
        )
        .await;
        self.same(format!("{watch:?}"), detcd.0, etcd.0)?;
        if let Some(id) = etcd.1 {
            if is_compacted {
                self.watchers[number].end(id);
            } else {
                self.watchers[number].add(id, start);
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, number: usize, id: i64) -> Result<(), Mismatch> {
        let (of_detcd, of_etcd) = (self.detcd.identity.clone(), self.etcd.identity.clone());
        let (detcd, etcd) = join(
            self.detcd.stream(number).cancel(id, &of_detcd),
            self.etcd.stream(number).cancel(id, &of_etcd),
        )
        .await;
        self.watchers[number].remove(id);
        self.same(format!("the end of watcher {id} of stream {number}"), detcd, etcd)
    }

    async fn progress(&mut self, number: usize) -> Result<(), Mismatch> {
        let watchers = &self.watchers[number];
        if watchers.is_empty() || !watchers.in_the_way(self.past.revision).is_empty() {
            let (of_detcd, of_etcd) = (self.detcd.identity.clone(), self.etcd.identity.clone());
            let (detcd, etcd) = join(
                self.detcd.stream(number).ask_in_vain(&of_detcd),
                self.etcd.stream(number).ask_in_vain(&of_etcd),
            )
            .await;
            return self.same(format!("a request for progress on stream {number}"), detcd, etcd);
        }
        self.settle(number).await
    }

    /// Compares all that a stream's watchers were sent so far. None of them may be in the way.
    async fn settle(&mut self, number: usize) -> Result<(), Mismatch> {
        if self.watchers[number].is_empty() {
            return Ok(());
        }
        let (of_detcd, of_etcd) = (self.detcd.identity.clone(), self.etcd.identity.clone());
        let revision = self.past.revision;
        let (detcd, etcd) = join(
            self.detcd.stream(number).settle(revision, &of_detcd),
            self.etcd.stream(number).settle(revision, &of_etcd),
        )
        .await;
        self.same(format!("what the watchers of stream {number} were sent"), detcd, etcd)
    }

    /// The same after cancelling those that keep the progress of the others from being known.
    async fn settle_after_clearing(&mut self, number: usize) -> Result<(), Mismatch> {
        for id in self.watchers[number].in_the_way(self.past.revision) {
            self.cancel(number, id).await?;
        }
        self.settle(number).await
    }
}
