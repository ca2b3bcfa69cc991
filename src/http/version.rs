//! `/version`: the versions of the server, of the cluster and of what is stored.

use super::page::{Page, json};
use crate::member::MemberView;
use crate::types::version::{ETCD_VERSION, STORAGE_VERSION};

/// What etcd says while the cluster has not agreed on a version.
const NOT_DECIDED: &str = "not_decided";

#[derive(serde::Serialize)]
struct Versions<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
}

pub(super) fn version(view: &MemberView) -> Page {
    let cluster = view.cluster_version.as_deref().unwrap_or(NOT_DECIDED);
    let versions = Versions { etcdserver: ETCD_VERSION, etcdcluster: cluster, storage: STORAGE_VERSION };
    json(super::to_json(&versions))
}
