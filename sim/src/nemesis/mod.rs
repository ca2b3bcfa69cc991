//! What goes wrong, as data: a plan that can be printed, edited, and shrunk.
//!
//! A plan is a list of steps. A step begins at a time or on a trigger (when the state of the cluster makes
//! its fault most likely to hurt), does one action, and ends after a time of its own. The fault budget is
//! written here: what a run may lose, so that a red run is always a bug.
//!
//! **Budget.** Power may be cut anywhere and everywhere at once, processes may die at any time, paths may
//! be cut in any pattern, clocks may be off as the setup says. Disks may fail (an error stops the member),
//! but what was synced may be damaged on a minority of members only, and always on the same ones: a
//! damaged member owes nothing any more but silence.

mod perform;
mod plan;

pub use perform::{perform, restart_fallen};
pub use plan::{Action, ClockFault, ConnectionFault, Direction, DiskFault, Plan, Step, Target, When};
