//! Errors, and advice how to fix them.

use std::error::Error;
use std::{fmt, io};

/// An error that may have advice how to fix it.
pub trait Advice: Error + Send + Sync + 'static {
    /// The advice, if there is any: one line.
    fn advice(&self) -> Option<&'static str> {
        None
    }
}

/// Any error, with its advice.
#[derive(Debug)]
pub struct Failure(Box<dyn Advice>);

impl Failure {
    /// Keeps an error.
    pub fn new(error: impl Advice) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl Advice for Failure {
    fn advice(&self) -> Option<&'static str> {
        self.0.advice()
    }
}

impl Advice for ima_format::Error {
    fn advice(&self) -> Option<&'static str> {
        match &self.kind {
            ima_format::ErrorKind::Pkcs11(fault) => Some(fault.hint()),
            _ => None,
        }
    }
}

impl Advice for io::Error {}

impl Advice for std::num::ParseIntError {}

impl Advice for openssl::error::ErrorStack {}
