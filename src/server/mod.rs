//! The shell around a member: configuration, start, event loop, disk tasks, ports, end.
//!
//! ```text
//!   config ──> start ──> node ──┬── recovery     what the disk holds, or a new cluster
//!                               ├── event_loop   owns the member
//!                               ├── disk_tasks   own the log and the database
//!                               ├── peers        the other members
//!                               └── listeners    clients, peers, metrics
//! ```
//!
//! `reach` and `observe` are what a simulator may put in place of ports, and beside the loop.
//!
//! `start` is for production alone; from `node` inwards the simulator runs the same code.

pub mod config;
pub mod data_dir;
pub mod disk_tasks;
mod disk_times;
pub mod event_loop;
pub mod listeners;
pub mod logging;
pub mod node;
pub mod observe;
pub mod peers;
mod rare;
pub mod reach;
pub mod recovery;
pub mod start;
