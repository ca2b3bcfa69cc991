//! Tests of the whole member, without runtime, disk or network: see [`cluster`].

mod cluster;
mod faults;
mod leases;
mod members;
mod scenarios;
