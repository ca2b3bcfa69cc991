//! `/members` of the peer port: who belongs to the cluster, for members that want to join it.

use http::HeaderValue;

use super::page::{Page, json};
use crate::member::MemberView;
use crate::membership::{Member, members_to_json};
use crate::proto::etcdserverpb as pb;
use crate::types::MemberId;

/// The header that names the cluster of an answer.
const CLUSTER_ID: &str = "x-etcd-cluster-id";

pub(super) fn members(view: &MemberView) -> Page {
    let members: Vec<Member> = view.members.iter().map(of_wire).collect();
    let mut page = json(members_to_json(&members) + "\n");
    if let Ok(id) = HeaderValue::try_from(view.status.cluster_id.to_string()) {
        page.headers_mut().insert(CLUSTER_ID, id);
    }
    page
}

fn of_wire(member: &pb::Member) -> Member {
    Member {
        id: MemberId(member.id),
        peer_urls: member.peer_ur_ls.clone(),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_ur_ls.clone(),
    }
}
