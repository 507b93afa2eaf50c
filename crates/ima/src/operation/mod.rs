//! Operations on files, wherever they are: each written once, for every container.

mod affected;
mod appended;
mod clear;
mod inspect;
mod sign;
mod verify;

pub use affected::{Affected, FindAffected};
pub use appended::{Append, AppendedInspection, Signatory, Strip, VerifyAppended};
pub use clear::{Clear, Cleared};
pub use inspect::{EvmInspection, Fit, Inspect, Inspection};
pub use sign::{EvmEffect, EvmMaker, EvmSign, Labels, Renewal, Sign, SignMode, Signed};
pub use verify::{EvmVerify, Judgement, Verify};
