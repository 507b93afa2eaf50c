//! Errors of the program: one line, and a second one with the advice.

use std::fmt;
use std::io;
use std::path::Path;

use ima::advice::Advice;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed. Every error that carries [`Advice`] converts into one.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    hint: Option<&'static str>,
    /// The reader of standard output is gone.
    pub(crate) is_broken_pipe: bool,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, is_broken_pipe: false }
    }

    /// The advice.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Advice> From<E> for Error {
    fn from(error: E) -> Self {
        let is = (&error as &(dyn std::error::Error + 'static)).downcast_ref::<io::Error>();
        let is_broken_pipe = is.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        Self { message: with_causes(&error), hint: error.advice(), is_broken_pipe }
    }
}

/// An error with advice.
pub(crate) fn hinted(message: impl Into<String>, hint: &'static str) -> Error {
    Error { hint: Some(hint), ..Error::new(message) }
}

/// An error with its causes; a cause that the message already contains is not repeated.
pub(crate) fn with_causes(error: &impl Advice) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text += &format!(": {cause}");
        }
        next = error.source();
    }
    text
}

/// Adds where it happened to an error.
pub(crate) trait Context<T> {
    fn with_context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T>;

    /// Adds the path.
    fn at(self, path: &Path) -> Result<T>
    where
        Self: Sized,
    {
        self.with_context(|| path.display().to_string())
    }

    fn context(self, context: &str) -> Result<T>
    where
        Self: Sized,
    {
        self.with_context(|| context)
    }
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn with_context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| {
            let error: Error = error.into();
            Error { message: format!("{}: {}", context(), error.message), ..error }
        })
    }
}

impl<T> Context<T> for Option<T> {
    fn with_context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.ok_or_else(|| Error::new(context().to_string()))
    }
}
