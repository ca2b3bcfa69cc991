//! Tests of replication: golden scripts and a random schedule, both over [`cluster::Cluster`].

mod cluster;
mod property;
mod rules;
mod scripts;
