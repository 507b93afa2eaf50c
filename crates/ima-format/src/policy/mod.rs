//! IMA policies: read as the kernel reads them, checked, explained, decided.
pub mod ast;
pub mod decide;
pub mod fault;
pub mod kernel;
pub mod lexer;
mod number;
pub mod parse;
mod suggest;

pub use ast::Policy;
pub use fault::{Fault, Refusal};
pub use kernel::{Kernel, KernelVersion};
pub use parse::{read, Loading, Reading};
