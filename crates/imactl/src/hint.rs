//! What to do about an error: one line beside it.

use std::error::Error;
use std::fmt;

use ima::advice::{Advice, Failure};
use ima::attest::ListError;
use ima::container::image::ImageError;
use ima::container::rpm::PackageError;
use ima::container::tar::TarError;
use ima::container::{ContainerError, ItemError};
use ima::key::create::CreateError;
use ima::key::private::PrivateKeyError;
use ima::key::store::StoreError;
use ima::key::token::TokenError;
use ima::key::{NoForm, SignError};
use ima::system::LoadError;

/// An error of the command line's own, with its hint.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: &'static str,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Hinted {}

impl Advice for Hinted {
    fn advice(&self) -> Option<&'static str> {
        Some(self.hint)
    }
}

/// An error that says what to do.
pub(crate) fn hinted(message: impl Into<String>, hint: &'static str) -> anyhow::Error {
    Hinted { message: message.into(), hint }.into()
}

/// An error with its causes. Many print their cause themselves: then it is not said again.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The advice of an error, or of the first of its causes that has any.
pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    /// Asks an error that is of one of these types.
    macro_rules! ask {
        ($error:expr, $($type:ty),+ $(,)?) => {
            None$(.or_else(|| $error.downcast_ref::<$type>().and_then(Advice::advice)))+
        };
    }
    causes(error).find_map(|error| {
        ask!(
            error,
            Hinted,
            ContainerError,
            ItemError,
            PackageError,
            Failure,
            ImageError,
            ListError,
            TarError,
            SignError,
            NoForm,
            CreateError,
            TokenError,
            PrivateKeyError,
            StoreError,
            LoadError,
            ima_format::Error,
        )
    })
}
