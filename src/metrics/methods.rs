//! The methods of every service, in a table that the hot path searches and the metrics page walks.

/// How many messages go either way in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// One each way.
    Unary,
    /// One request, any number of answers.
    ServerStream,
    /// Any number each way.
    BidiStream,
}

impl CallKind {
    /// The value of the label `grpc_type`.
    pub fn label(self) -> &'static str {
        match self {
            CallKind::Unary => "unary",
            CallKind::ServerStream => "server_stream",
            CallKind::BidiStream => "bidi_stream",
        }
    }
}

/// One method of a service.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its path in HTTP/2: `/service/method`.
    pub path: &'static str,
    /// Its shape.
    pub kind: CallKind,
}

impl Method {
    /// The full name of its service, and its own name.
    pub fn names(&self) -> (&'static str, &'static str) {
        split_path(self.path).unwrap_or((self.path, ""))
    }
}

/// The service and the method that a path names.
pub fn split_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/').unwrap_or(path).rsplit_once('/')
}

/// The place of a path in [`METHODS`].
pub(super) fn find(path: &str) -> Option<usize> {
    METHODS.binary_search_by(|method| method.path.cmp(path)).ok()
}

/// Whether any method belongs to `service`.
pub fn is_service(service: &str) -> bool {
    METHODS.iter().any(|method| method.names().0 == service)
}

const fn unary(path: &'static str) -> Method {
    Method { path, kind: CallKind::Unary }
}

const fn server_stream(path: &'static str) -> Method {
    Method { path, kind: CallKind::ServerStream }
}

const fn bidi_stream(path: &'static str) -> Method {
    Method { path, kind: CallKind::BidiStream }
}

/// Every method that is served, ascending by path.
pub const METHODS: [Method; 52] = [
    unary("/etcdserverpb.Auth/AuthDisable"),
    unary("/etcdserverpb.Auth/AuthEnable"),
    unary("/etcdserverpb.Auth/AuthStatus"),
    unary("/etcdserverpb.Auth/Authenticate"),
    unary("/etcdserverpb.Auth/RoleAdd"),
    unary("/etcdserverpb.Auth/RoleDelete"),
    unary("/etcdserverpb.Auth/RoleGet"),
    unary("/etcdserverpb.Auth/RoleGrantPermission"),
    unary("/etcdserverpb.Auth/RoleList"),
    unary("/etcdserverpb.Auth/RoleRevokePermission"),
    unary("/etcdserverpb.Auth/UserAdd"),
    unary("/etcdserverpb.Auth/UserChangePassword"),
    unary("/etcdserverpb.Auth/UserDelete"),
    unary("/etcdserverpb.Auth/UserGet"),
    unary("/etcdserverpb.Auth/UserGrantRole"),
    unary("/etcdserverpb.Auth/UserList"),
    unary("/etcdserverpb.Auth/UserRevokeRole"),
    unary("/etcdserverpb.Cluster/MemberAdd"),
    unary("/etcdserverpb.Cluster/MemberList"),
    unary("/etcdserverpb.Cluster/MemberPromote"),
    unary("/etcdserverpb.Cluster/MemberRemove"),
    unary("/etcdserverpb.Cluster/MemberUpdate"),
    unary("/etcdserverpb.KV/Compact"),
    unary("/etcdserverpb.KV/DeleteRange"),
    unary("/etcdserverpb.KV/Put"),
    unary("/etcdserverpb.KV/Range"),
    server_stream("/etcdserverpb.KV/RangeStream"),
    unary("/etcdserverpb.KV/Txn"),
    unary("/etcdserverpb.Lease/LeaseGrant"),
    bidi_stream("/etcdserverpb.Lease/LeaseKeepAlive"),
    unary("/etcdserverpb.Lease/LeaseLeases"),
    unary("/etcdserverpb.Lease/LeaseRevoke"),
    unary("/etcdserverpb.Lease/LeaseTimeToLive"),
    unary("/etcdserverpb.Maintenance/Alarm"),
    unary("/etcdserverpb.Maintenance/Defragment"),
    unary("/etcdserverpb.Maintenance/Downgrade"),
    unary("/etcdserverpb.Maintenance/Hash"),
    unary("/etcdserverpb.Maintenance/HashKV"),
    unary("/etcdserverpb.Maintenance/MoveLeader"),
    server_stream("/etcdserverpb.Maintenance/Snapshot"),
    unary("/etcdserverpb.Maintenance/Status"),
    bidi_stream("/etcdserverpb.Watch/Watch"),
    unary("/grpc.health.v1.Health/Check"),
    unary("/grpc.health.v1.Health/List"),
    server_stream("/grpc.health.v1.Health/Watch"),
    unary("/v3electionpb.Election/Campaign"),
    unary("/v3electionpb.Election/Leader"),
    server_stream("/v3electionpb.Election/Observe"),
    unary("/v3electionpb.Election/Proclaim"),
    unary("/v3electionpb.Election/Resign"),
    unary("/v3lockpb.Lock/Lock"),
    unary("/v3lockpb.Lock/Unlock"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path() {
        assert!(METHODS.is_sorted_by(|a, b| a.path < b.path));
        for (place, method) in METHODS.iter().enumerate() {
            assert_eq!(find(method.path), Some(place), "{}", method.path);
        }
        for path in ["", "/", "/etcdserverpb.KV", "/etcdserverpb.KV/range", "/etcdserverpb.KV/Range/"] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_is_split_at_its_last_slash() {
        assert_eq!(split_path("/etcdserverpb.KV/Put"), Some(("etcdserverpb.KV", "Put")));
        assert_eq!(split_path("/a/b/c"), Some(("a/b", "c")));
        assert_eq!(split_path("/"), None);
        assert!(is_service("v3lockpb.Lock"));
        assert!(!is_service("v3lockpb"));
    }
}
