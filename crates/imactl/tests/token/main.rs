//! Keys in tokens.

mod device;
mod misbehaving;
mod signing;
#[path = "../support/mod.rs"]
mod support;
