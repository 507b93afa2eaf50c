//! IMA policies: read as the kernel reads them, checked, explained, decided.
pub mod ast;
pub mod builtin;
pub mod decide;
pub mod diagnostic;
pub mod diff;
pub mod explain;
pub mod fault;
pub mod filesystem;
pub mod kernel;
pub mod lexer;
pub mod lint;
mod number;
pub mod parse;
mod space;
mod suggest;

pub use ast::Policy;
pub use diagnostic::{Diagnostic, Location, Severity};
pub use diff::{diff, Diff};
pub use explain::explain;
pub use fault::{Fault, Refusal};
pub use kernel::{Kernel, KernelVersion};
pub use lint::check;
pub use parse::{read, Loading, Reading};
