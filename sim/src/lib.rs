//! The simulator of detcd: whole clusters in one seed, under every fault, with every history checked.
//!
//! ```text
//!   seed --> setup (what this run is like) --+--> plan of faults (nemesis)
//!                                            |
//!   world:  members on madsim nodes <-- faults     clients (workload) --calls--> members
//!            |  disk, clock, bus                       |
//!            v                                         v
//!           monitor (watches the loops)             history (what clients saw)
//!                         \                         /
//!                          evidence --> checkers, one claim each --> verdict, trace, report
//! ```
//!
//! Everything follows from the seed: the scheduler, every latency, every fault, every request. Production
//! code never knows this crate; it comes in through the seams of `detcd::server::node::Environment`.
#![cfg(madsim)]

pub mod buggify;
pub mod bus;
pub mod checkers;
pub mod cli;
pub mod clock;
pub mod connections;
pub mod controls;
pub mod coverage;
pub mod disk;
pub mod evidence;
pub mod full;
pub mod healed;
pub mod history;
pub mod markers;
pub mod model;
pub mod monitor;
pub mod nemesis;
pub mod planted;
pub mod random;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod setup;
pub mod storage;
pub mod trace;
pub mod wire;
pub mod workload;
pub mod world;
