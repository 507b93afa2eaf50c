//! Passphrases: from a file, the environment, a descriptor or a prompt, never from argv.

use std::convert::Infallible;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use clap::Args;
use ima::input::{self, KEY_MAX};
use ima::key::passphrase::Passphrase;
use ima::key::token::{Pin, PinEntry, PinRequest, Tries};
use zeroize::Zeroizing;

use crate::printable::Printable;
use crate::terminal;

/// Where the key's passphrase, or the token's PIN, comes from
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct PassphraseArgs {
    /// Read the key's passphrase, or the token's PIN, from the first line of a file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Read the passphrase or PIN from an environment variable
    #[arg(long, value_name = "NAME", value_parser = take_variable)]
    passphrase_env: Option<Variable>,
    /// Read the passphrase or PIN from the first line of an open file descriptor
    #[arg(long, value_name = "N", value_parser = take_descriptor)]
    passphrase_fd: Option<u32>,
}

/// A variable of the environment, and its value.
#[derive(Debug, Clone)]
struct Variable {
    name: String,
    value: Option<Passphrase>,
}

/// Removes a variable from the environment, so that programs started later do not inherit it. Called
/// while the command line is parsed, before there are other threads.
fn take_variable(name: &str) -> Result<Variable, Infallible> {
    let value = env::var_os(name).map(|value| Passphrase::new(value.into_vec()));
    if value.is_some() {
        env::remove_var(name);
    }
    Ok(Variable { name: name.to_owned(), value })
}

/// Sets close-on-exec on a descriptor, so that programs started later do not inherit it.
fn take_descriptor(number: &str) -> Result<u32, String> {
    let number: u32 = number.parse().map_err(|error| format!("{error}"))?;
    let descriptor = libc::c_int::try_from(number).map_err(|error| error.to_string())?;
    // SAFETY: sets one flag of a descriptor that the caller passed for this; a closed one fails here, and again
    // when it is read
    unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    Ok(number)
}

impl PassphraseArgs {
    /// Whether a source other than the prompt was named.
    pub(crate) fn is_given(&self) -> bool {
        self.passphrase_file.is_some()
            || self.passphrase_env.is_some()
            || self.passphrase_fd.is_some()
    }

    /// The passphrase, if a source other than the prompt was named.
    pub(crate) fn given(&self) -> io::Result<Option<Passphrase>> {
        let named = |what: String, error: io::Error| {
            io::Error::new(error.kind(), format!("passphrase from {what}: {error}"))
        };
        let read =
            |path: &Path, what: String| match input::read_path(path, KEY_MAX).map(Zeroizing::new) {
                Ok(content) => Ok(Some(Passphrase::first_line(&content))),
                Err(error) => Err(named(what, error.source)),
            };
        if let Some(path) = &self.passphrase_file {
            return read(path, path.display().to_string());
        }
        if let Some(number) = self.passphrase_fd {
            let path = PathBuf::from(format!("/dev/fd/{number}"));
            return read(&path, format!("descriptor {number}"));
        }
        let Some(Variable { name, value }) = &self.passphrase_env else { return Ok(None) };
        match value {
            Some(value) => Ok(Some(value.clone())),
            None => {
                let message = format!("passphrase from ${name}: the variable is not set");
                Err(io::Error::new(io::ErrorKind::NotFound, message))
            }
        }
    }

    /// The passphrase of an encrypted key: as given, or from a prompt on the terminal. `None`
    /// without a terminal.
    pub(crate) fn ask(&self, key: &Path) -> io::Result<Option<Passphrase>> {
        match self.given()? {
            None => prompt(&format!("Passphrase of {}: ", key.display())),
            given => Ok(given),
        }
    }

    /// The passphrase of any number of encrypted keys: as given, or from a prompt for the first of
    /// them. If it is empty, the keys stay encrypted.
    pub(crate) fn ask_once(
        &self,
    ) -> io::Result<impl FnMut(&Path) -> io::Result<Option<Passphrase>>> {
        let mut asked = self.given()?.map(Some);
        Ok(move |_: &Path| {
            if asked.is_none() {
                let text = "Passphrase of the private keys (empty: leave them closed): ";
                asked = Some(prompt(text)?.filter(|typed| !typed.as_bytes().is_empty()));
            }
            Ok(asked.clone().flatten())
        })
    }

    /// A token's PIN: as given, or from a prompt on the terminal. For a device with its own keypad the
    /// prompt only asks to type the PIN there. `None` without a terminal.
    pub(crate) fn ask_pin(&self, request: &PinRequest<'_>) -> io::Result<Option<Pin>> {
        if let Some(given) = self.given()? {
            return Ok(Some(Pin::Stored(given)));
        }
        let PinRequest { token, tries, entry } = request;
        let token = token.to_string();
        let token = Printable::new(&token);
        let warning = match tries {
            Tries::Unknown => "",
            Tries::Few => " (a wrong one was tried before)",
            Tries::Last => " (LAST TRY: a wrong one locks it)",
        };
        if *entry == PinEntry::Device {
            eprintln!("{token} asks for its PIN at the device{warning}");
            return Ok(None);
        }
        Ok(prompt(&format!("PIN of {token}{warning}: "))?.map(Pin::Typed))
    }

    /// A new passphrase: as given, or from two prompts on the terminal.
    pub(crate) fn ask_new(&self) -> io::Result<Option<Passphrase>> {
        if let Some(given) = self.given()? {
            return Ok(Some(given));
        }
        let Some(first) = prompt("New passphrase for the private keys: ")? else {
            return Ok(None);
        };
        match prompt("The same again: ")? {
            Some(second) if second.as_bytes() == first.as_bytes() => Ok(Some(first)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the passphrases differ")),
        }
    }
}

fn prompt(text: &str) -> io::Result<Option<Passphrase>> {
    // read from the terminal itself: stdin may be a pipe
    let Ok(tty) = fs::File::open("/dev/tty") else { return Ok(None) };
    let _kept = terminal::keep(tty);
    let typed = rpassword::prompt_password(text)?;
    Ok(Some(Passphrase::new(typed.into_bytes())))
}
