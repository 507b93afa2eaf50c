//! Operations on files, wherever they are: each written once, for every container.

mod clear;
mod inspect;
mod sign;
mod verify;

pub use clear::{Clear, Cleared};
pub use inspect::{Fit, Inspect, Inspection};
pub use sign::{Sign, SignMode, Signed};
pub use verify::{Judgement, Verify};
