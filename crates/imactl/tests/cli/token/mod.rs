//! Keys in tokens.

mod device;
mod misbehaving;
mod signing;
