//! `etcdserverpb.Maintenance`: what operators ask of one member.

use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::admit::Serves;
use super::status::status;
use super::unbuilt::unbuilt;
use crate::apply;
use crate::member::{self, MemberView, Reply};
use crate::mvcc::KvHash;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest,
    StatusResponse,
};
use crate::rt;
use crate::types::version::{ETCD_VERSION, STORAGE_VERSION};
use crate::types::{Error, MemberId, RequestError};

/// Records that one step of a hash looks at before other work gets its turn.
const HASH_STEP_RECORDS: usize = 4096;

impl Rpc {
    /// The hash of the key space at a revision, computed beside the network's thread.
    async fn hash_kv_at(&self, view: &MemberView, revision: i64) -> Result<KvHash, Status> {
        let store = view.store.clone();
        let hash = rt::blocking(move || -> Result<KvHash, Error> {
            let mut job = store.hash(revision)?;
            loop {
                if let Some(hash) = job.step(HASH_STEP_RECORDS)? {
                    return Ok(hash);
                }
            }
        })
        .await;
        hash.map_err(|error| self.failed(error))
    }
}

/// What is wrong with the member, in etcd's words.
fn errors(view: &MemberView) -> Vec<String> {
    let mut errors = Vec::new();
    if view.status.leader == MemberId(0) {
        errors.push(RequestError::NoLeader.text().to_owned());
    }
    errors.extend(view.alarms.iter().map(alarm_text));
    errors
}

/// An alarm as Go prints its message: without what is zero, and a kind that nobody knows as its number.
fn alarm_text(alarm: &AlarmMember) -> String {
    let member = (alarm.member_id != 0).then(|| format!("memberID:{}", alarm.member_id));
    let kind = match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::None) => None,
        Ok(known) => Some(format!("alarm:{}", known.as_str_name())),
        Err(_) => Some(format!("alarm:{}", alarm.alarm)),
    };
    member.into_iter().chain(kind).collect::<Vec<_>>().join(" ")
}

#[tonic::async_trait]
impl Maintenance for Rpc {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let request = request.into_inner();
        if request.action() == AlarmAction::Get {
            // An alarm that was acknowledged anywhere must show everywhere: etcd asks through the log.
            let view = self.mailbox.linearizable_view().await.map_err(status)?;
            // Kinds that this version does not know can be raised, and so asked for.
            let wanted = |alarm: &&AlarmMember| request.alarm == 0 || alarm.alarm == request.alarm;
            let alarms = view.alarms.iter().filter(wanted).cloned().collect();
            let header = Some(self.header(&view, view.store.revision()));
            return Ok(Response::new(AlarmResponse { header, alarms }));
        }
        match self.mailbox.ask(member::Request::Alarm(request)).await.map_err(status)? {
            Reply::Applied(apply::Reply::Alarm(mut response)) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(Status::internal(format!("unexpected reply {other:?}"))),
        }
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.admit(request.metadata(), Serves::All)?;
        let view = self.mailbox.view();
        Ok(Response::new(StatusResponse {
            header: Some(self.header(&view, view.store.revision())),
            version: ETCD_VERSION.to_owned(),
            db_size: view.status.db_size as i64,
            leader: view.status.leader.0,
            raft_index: view.status.commit,
            raft_term: view.status.term,
            raft_applied_index: view.status.applied,
            errors: errors(&view),
            db_size_in_use: view.status.db_size_in_use as i64,
            is_learner: view.status.is_learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: view.status.quota as i64,
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        unbuilt("defragmentation")
    }

    /// The hash of the key space alone: the rest of the database has another format than etcd's, so its
    /// hash could not be compared with anything.
    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let view = self.mailbox.view();
        let hash = self.hash_kv_at(&view, 0).await?;
        let header = Some(self.header(&view, view.store.revision()));
        Ok(Response::new(HashResponse { header, hash: hash.hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let view = self.mailbox.view();
        let hash = self.hash_kv_at(&view, request.into_inner().revision).await?;
        Ok(Response::new(HashKvResponse {
            header: Some(self.header(&view, view.store.revision())),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        unbuilt("saving a snapshot")
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.admit(request.metadata(), Serves::Voters)?;
        let target = MemberId(request.into_inner().target_id);
        self.mailbox.ask(member::Request::MoveLeader(target)).await.map_err(status)?;
        // No header, as in etcd.
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        unbuilt("downgrading")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_reads_as_in_go() {
        let check = |member_id, alarm, text| assert_eq!(alarm_text(&AlarmMember { member_id, alarm }), text);
        check(42, AlarmType::Nospace as i32, "memberID:42 alarm:NOSPACE");
        check(0, AlarmType::Corrupt as i32, "alarm:CORRUPT");
        check(42, 3, "memberID:42 alarm:3");
        check(42, 0, "memberID:42");
    }
}
