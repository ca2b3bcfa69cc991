//! The table of what is served: which path is which method.
//!
//! All are asked with POST, and the whole body is the request. What requests and answers consist of, and
//! which of them are streams, is in the descriptors of the services.

use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::proto;

/// Every path and the path of its method in gRPC, ascending.
const TABLE: &[(&str, &str)] = &[
    ("/v3/auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("/v3/auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("/v3/auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("/v3/auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("/v3/auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("/v3/auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("/v3/auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("/v3/auth/role/list", "/etcdserverpb.Auth/RoleList"),
    ("/v3/auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission"),
    ("/v3/auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("/v3/auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    ("/v3/auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword"),
    ("/v3/auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("/v3/auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("/v3/auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("/v3/auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("/v3/auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("/v3/cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("/v3/cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    ("/v3/cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote"),
    ("/v3/cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove"),
    ("/v3/cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate"),
    ("/v3/election/campaign", "/v3electionpb.Election/Campaign"),
    ("/v3/election/leader", "/v3electionpb.Election/Leader"),
    ("/v3/election/observe", "/v3electionpb.Election/Observe"),
    ("/v3/election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("/v3/election/resign", "/v3electionpb.Election/Resign"),
    ("/v3/kv/compaction", "/etcdserverpb.KV/Compact"),
    ("/v3/kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("/v3/kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("/v3/kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("/v3/kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("/v3/kv/put", "/etcdserverpb.KV/Put"),
    ("/v3/kv/range", "/etcdserverpb.KV/Range"),
    ("/v3/kv/txn", "/etcdserverpb.KV/Txn"),
    ("/v3/lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("/v3/lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("/v3/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("/v3/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("/v3/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("/v3/lock/lock", "/v3lockpb.Lock/Lock"),
    ("/v3/lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("/v3/maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    ("/v3/maintenance/defragment", "/etcdserverpb.Maintenance/Defragment"),
    ("/v3/maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade"),
    ("/v3/maintenance/hash", "/etcdserverpb.Maintenance/Hash"),
    ("/v3/maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV"),
    ("/v3/maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    ("/v3/maintenance/status", "/etcdserverpb.Maintenance/Status"),
    ("/v3/maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader"),
    ("/v3/watch", "/etcdserverpb.Watch/Watch"),
];

/// Every route.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Route>,
}

/// One line of the table, and what goes along it.
#[derive(Debug)]
pub(super) struct Route {
    path: &'static str,
    /// The path of the method in gRPC.
    pub(super) method: &'static str,
    /// What a request consists of.
    pub(super) input: MessageDescriptor,
    /// What an answer consists of.
    pub(super) output: MessageDescriptor,
    /// Whether there may be several requests.
    pub(super) requests_stream: bool,
    /// Whether there may be several answers.
    pub(super) answers_stream: bool,
}

/// The descriptors that were built into the program do not fit the table.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// They cannot be read.
    #[error("the descriptors of the services cannot be read: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// A method of the table is not among them.
    #[error("{0} is not among the descriptors of the services")]
    Missing(&'static str),
}

impl Routes {
    /// Brings the table and the descriptors together.
    ///
    /// # Errors
    /// When they do not fit, which a test rules out.
    pub(super) fn load() -> Result<Self, RoutesError> {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS)?;
        let route = |&(path, method): &(&'static str, &'static str)| {
            let (service, name) =
                method.trim_start_matches('/').split_once('/').ok_or(RoutesError::Missing(method))?;
            let service = pool.get_service_by_name(service).ok_or(RoutesError::Missing(method))?;
            let found = service.methods().find(|method| method.name() == name);
            let found = found.ok_or(RoutesError::Missing(method))?;
            Ok(Route {
                path,
                method,
                input: found.input(),
                output: found.output(),
                requests_stream: found.is_client_streaming(),
                answers_stream: found.is_server_streaming(),
            })
        };
        Ok(Self { routes: TABLE.iter().map(route).collect::<Result<_, RoutesError>>()? })
    }

    /// The route of a path.
    pub(super) fn find(&self, path: &str) -> Option<&Route> {
        let place = self.routes.binary_search_by(|route| route.path.cmp(path)).ok()?;
        self.routes.get(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::methods::METHODS;

    #[test]
    fn every_line_of_the_table_is_found() {
        let routes = Routes::load().unwrap();
        for (path, method) in TABLE {
            assert_eq!(routes.find(path).map(|route| route.method), Some(*method), "{path}");
        }
        for path in ["", "/v3", "/v3/", "/v3/kv", "/v3/kv/range/", "/v3/KV/range", "/v3/kv/range:"] {
            assert!(routes.find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn every_method_that_etcd_serves_over_http_has_a_line() {
        let routed: BTreeSet<&str> = TABLE.iter().map(|(_, method)| *method).collect();
        let missing: Vec<&str> =
            METHODS.iter().map(|method| method.path).filter(|method| !routed.contains(method)).collect();
        let health = ["Check", "List", "Watch"].map(|name| format!("/grpc.health.v1.Health/{name}"));
        let [check, list, watch] = health.each_ref().map(String::as_str);
        assert_eq!(missing, ["/etcdserverpb.KV/RangeStream", check, list, watch]);
    }

    #[test]
    fn streams_are_known_for_what_they_are() {
        let routes = Routes::load().unwrap();
        let check = |path, expected| {
            let route = routes.find(path).unwrap();
            assert_eq!((route.requests_stream, route.answers_stream), expected, "{path}");
        };
        check("/v3/kv/range", (false, false));
        check("/v3/election/observe", (false, true));
        check("/v3/maintenance/snapshot", (false, true));
        check("/v3/watch", (true, true));
        check("/v3/lease/keepalive", (true, true));
    }
}
