//! Which etcd this server passes for. Clients and scripts read these to see what they may use.

/// The version of etcd whose surface the programs have.
pub const ETCD_VERSION: &str = "3.7.1";

/// The storage version of that surface.
pub const STORAGE_VERSION: &str = "3.7.0";

/// The cluster version that members agree on, in the form that is replicated.
pub const CLUSTER_VERSION: &str = "3.7.0";

/// The version of the API, as command-line tools print it.
pub const API_VERSION: &str = "3.7";
