//! Carrying out what a member asks for, and what is asserted of it.

use std::hash::Hash;

use super::*;

impl Cluster {
    pub(super) fn perform(&mut self, index: usize, output: Output) {
        match output {
            Output::Send(messages) => self.send(index, messages),
            Output::Persist(persist) => self.log(index, LogJob::Persist(persist)),
            Output::ReleaseLog { standing, through } => {
                assert!(through <= standing.index, "released beyond the database");
                self.log(index, LogJob::Release(through));
            }
            Output::Commit(batch) => {
                let node = &mut self.nodes[index];
                assert!(node.database.is_empty(), "two commits are outstanding");
                node.database.push_back(DatabaseJob::Commit(batch));
            }
            Output::Install(point) => {
                self.snapshots += 1;
                let node = &mut self.nodes[index];
                let (arrived, backend) = node.arrived.take().expect("a snapshot that arrived");
                assert_eq!(arrived, point);
                assert!(node.held_back.is_none(), "two snapshots are being installed");
                node.held_back = Some(Vec::new());
                node.database.push_back(DatabaseJob::Install(backend));
            }
            Output::Publish(view) => self.published(index, view),
            Output::Reply { ticket, result } => self.replied(index, ticket, result),
            Output::Watch { stream, responses } => {
                format!("{responses:?}").hash(&mut self.trace);
                self.nodes[index].watched.entry(stream).or_default().extend(responses);
            }
            Output::LeaseCall { to, call } => self.post(index, to, Wire::Call(call)),
            Output::LeaseAnswer { to, answer } => self.post(index, to, Wire::Answer(answer)),
            Output::MembersChanged(_) => {}
            Output::Removed => self.nodes[index].removed = true,
        }
    }

    fn log(&mut self, index: usize, job: LogJob) {
        let node = &mut self.nodes[index];
        match &mut node.held_back {
            Some(held_back) => held_back.push(job),
            None => node.log.push_back(job),
        }
    }

    pub(super) fn send(&mut self, index: usize, messages: Vec<PeerMessage>) {
        for mut message in messages {
            message.bytes.hash(&mut self.trace);
            let mut state = None;
            if message.snapshot.is_some() {
                let backend = self.nodes[index].disk.backend.clone();
                message = with_snapshot_point(&message, &point_of(&backend)).expect("a newer database");
                state = Some(backend);
            }
            self.post(index, MemberId(message.to), Wire::Raft(message, state));
        }
    }

    fn post(&mut self, from: usize, to: MemberId, wire: Wire) {
        if let Some(to) = self.nodes.iter().position(|node| node.id == to) {
            self.network.push(Packet { from, to, wire });
        }
    }

    fn published(&mut self, index: usize, view: Arc<MemberView>) {
        let (applied, revision) = (view.status.applied, view.store.revision());
        (applied, revision, view.status.term, view.status.leader).hash(&mut self.trace);
        let durable = |node: &Node| {
            node.disk.backend.applied.as_ref().is_some_and(|point| point.index >= applied)
                || node.disk.entries.last().is_some_and(|last| last.index >= applied)
        };
        let holders = self.nodes.iter().filter(|node| durable(node)).count();
        // Until all initial members are there, there is nothing to count.
        let size = self.initial.members().len();
        assert!(
            self.nodes.len() < size || holders > size / 2,
            "node {index} shows entry {applied}, which {holders} disks hold"
        );
        let before = self.nodes[index].view.as_ref().map_or(0, |view| view.status.applied);
        assert!(before <= applied, "node {index} went back from entry {before} to {applied}");
        if before < applied {
            let hash = hash_of(&view);
            let first = *self.states.entry(applied).or_insert((revision, hash));
            assert_eq!((revision, hash), first, "node {index} differs at entry {applied}");
        }
        self.nodes[index].view = Some(view);
    }

    fn replied(&mut self, index: usize, ticket: Ticket, result: Result<Reply, RequestError>) {
        format!("{ticket:?} {result:?}").hash(&mut self.trace);
        let asked = self.tickets.remove(&ticket).expect("a caller that waits, and is answered once");
        let shown = self.nodes[index].view.as_ref().map_or(0, |view| view.store.revision());
        if let Ok(reply) = &result {
            let revision = revision_of(reply).unwrap_or(0);
            assert!(revision <= shown, "{ticket:?} is answered before revision {revision} is published");
            if matches!(reply, Reply::Applied(apply::Reply::Put(_))) {
                assert!(revision > asked.acknowledged, "{ticket:?} got an old revision {revision}");
            }
            if *reply == Reply::ReadIndex {
                assert!(shown >= asked.acknowledged, "{ticket:?} reads revision {shown}: stale");
            }
            self.acknowledged = self.acknowledged.max(revision);
        }
        self.replies.insert(ticket, result);
    }
}

fn hash_of(view: &MemberView) -> u32 {
    let mut job = view.store.hash(0).expect("the present can be hashed");
    loop {
        if let Some(hash) = job.step(10_000).expect("a readable store") {
            return hash.hash;
        }
    }
}

fn revision_of(reply: &Reply) -> Option<i64> {
    let header = match reply {
        Reply::Applied(apply::Reply::Put(response)) => &response.header,
        Reply::Applied(apply::Reply::DeleteRange(response)) => &response.header,
        Reply::Applied(apply::Reply::Txn(response)) => &response.header,
        Reply::Applied(apply::Reply::LeaseRevoke(response)) => &response.header,
        _ => return None,
    };
    header.as_ref().map(|header| header.revision)
}
