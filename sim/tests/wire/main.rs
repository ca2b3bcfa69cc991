//! Whole servers over simulated TCP: see `sim::full`.
#![cfg(madsim)]

mod cluster;
mod determinism;
mod faults;
mod speed;
mod storm;
