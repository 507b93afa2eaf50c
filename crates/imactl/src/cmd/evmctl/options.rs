//! evmctl's command line, as getopt_long reads it: options anywhere, long ones abbreviated, an
//! optional value only attached.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Whether an option has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    No,
    Needed,
    /// `--uuid=VALUE`, `-uVALUE`
    Attached,
}

/// The long name of an option, its short name, and whether it has a value.
const OPTIONS: &[(&str, u8, Value)] = &[
    ("help", b'h', Value::No),
    ("imasig", b's', Value::No),
    ("imahash", b'd', Value::No),
    ("hashalgo", b'a', Value::Needed),
    ("pass", b'p', Value::Attached),
    ("sigfile", b'f', Value::No),
    ("uuid", b'u', Value::Attached),
    ("rsa", 0, Value::No),
    ("key", b'k', Value::Needed),
    ("type", b't', Value::Needed),
    ("recursive", b'r', Value::No),
    ("m32", 0, Value::No),
    ("m64", 0, Value::No),
    ("portable", b'o', Value::No),
    ("smack", 0, Value::No),
    ("version", 0, Value::No),
    ("inode", 0, Value::Needed),
    ("ino", 0, Value::Needed),
    ("uid", 0, Value::Needed),
    ("gid", 0, Value::Needed),
    ("mode", 0, Value::Needed),
    ("generation", 0, Value::Needed),
    ("ima", 0, Value::Needed),
    ("selinux", 0, Value::Needed),
    ("caps", 0, Value::Attached),
    ("engine", 0, Value::Needed),
    ("provider", 0, Value::Needed),
    ("xattr-user", 0, Value::No),
    ("keyid", 0, Value::Needed),
    ("keyid-from-cert", 0, Value::Needed),
    ("veritysig", 0, Value::No),
    ("hmackey", 0, Value::Needed),
    ("v2", 0, Value::No),
    ("v3", 0, Value::No),
    ("evm-xattr", 0, Value::Needed),
    ("immutable", b'i', Value::No),
    ("no-write", b'n', Value::No),
    ("verbose", b'v', Value::No),
    ("pcrs", 0, Value::Needed),
    ("verify-sig", 0, Value::No),
    ("verify-bank", 0, Value::Needed),
    ("ignore-violations", 0, Value::No),
    ("hwtpm", 0, Value::No),
];

/// The parsed command line.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// The options that were given: long name and value.
    given: Vec<(&'static str, Option<OsString>)>,
    /// The command and its operands.
    pub(super) operands: Vec<OsString>,
}

impl Options {
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_bytes() {
                b"--" => options.operands.extend(arguments.by_ref()),
                [b'-', b'-', long @ ..] => options.long(long, &mut arguments)?,
                [b'-', short @ ..] if !short.is_empty() => options.short(short, &mut arguments)?,
                _ => options.operands.push(argument),
            }
        }
        Ok(options)
    }

    fn long(&mut self, text: &[u8], next: &mut impl Iterator<Item = OsString>) -> Result<()> {
        let shown = String::from_utf8_lossy(text);
        let mut parts = text.splitn(2, |byte| *byte == b'=');
        let (name, attached) = (parts.next().unwrap_or_default(), parts.next());
        let exact = OPTIONS.iter().find(|(long, ..)| long.as_bytes() == name);
        let mut similar = OPTIONS.iter().filter(|(long, ..)| long.as_bytes().starts_with(name));
        let found = match (exact, similar.next(), similar.next()) {
            (Some(exact), ..) => exact,
            (None, Some(only), None) => only,
            (None, Some(_), Some(_)) => {
                return Err(Error::new(format!("option '--{shown}' is ambiguous")));
            }
            _ => return Err(Error::new(format!("unrecognized option '--{shown}'"))),
        };
        let attached = attached.map(|value| OsString::from_vec(value.to_vec()));
        let value = match (found.2, attached) {
            (Value::No, Some(_)) => {
                return Err(Error::new(format!("option '--{}' has no argument", found.0)));
            }
            (Value::Needed, None) => Some(next.next().ok_or_else(|| needs(found.0))?),
            (_, attached) => attached,
        };
        self.given.push((found.0, value));
        Ok(())
    }

    fn short(&mut self, text: &[u8], next: &mut impl Iterator<Item = OsString>) -> Result<()> {
        let mut rest = text;
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            let found = OPTIONS.iter().find(|(_, short, _)| short == first && *short != 0);
            let Some((name, _, kind)) = found else {
                return Err(Error::new(format!("invalid option -- '{}'", char::from(*first))));
            };
            let attached = (!rest.is_empty()).then(|| OsStr::from_bytes(rest).to_owned());
            let value = match (kind, attached) {
                (Value::No, _) => None,
                (Value::Needed, None) => Some(next.next().ok_or_else(|| needs(name))?),
                (_, attached) => {
                    rest = &[];
                    attached
                }
            };
            self.given.push((name, value));
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The last value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        let mut given = self.given.iter().rev();
        given.find(|(given, _)| *given == name).and_then(|(_, value)| value.as_deref())
    }

    /// All values of an option.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a OsStr> {
        let given = self.given.iter().filter(move |(given, _)| *given == name);
        given.filter_map(|(_, value)| value.as_deref())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        let text = |value: &'_ OsStr| value.to_str().map(str::len).is_some();
        match self.value(name) {
            Some(value) if !text(value) => Err(Error::new(format!("--{name}: not text"))),
            value => Ok(value.and_then(OsStr::to_str)),
        }
    }

    /// A decimal number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let number = self.text(name)?.map(|text| {
            text.parse().map_err(|_| Error::new(format!("--{name} {text}: not such a number")))
        });
        number.transpose()
    }
}

fn needs(name: &str) -> Error {
    Error::new(format!("option '--{name}' requires an argument"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Options> {
        Options::parse(arguments.split(' ').map(OsString::from))
    }

    #[test]
    fn options_are_read_as_getopt_long_reads_them() {
        let options = parse("sign --hash sha1 -ofk K.pem FILE --uuid --caps=x -pword -n").unwrap();
        assert_eq!(options.operands, ["sign", "FILE"]);
        assert_eq!(options.value("hashalgo"), Some(OsStr::new("sha1")));
        assert_eq!(options.value("key"), Some(OsStr::new("K.pem")));
        assert_eq!(options.value("pass"), Some(OsStr::new("word")));
        assert_eq!(options.value("caps"), Some(OsStr::new("x")));
        assert!(["portable", "sigfile", "uuid", "no-write"].iter().all(|it| options.has(it)));
        assert_eq!(options.value("uuid"), None);
        assert_eq!(parse("x -- -n").unwrap().operands, ["x", "-n"]);
        for wrong in ["--no-such", "--m", "-x", "--key", "-k", "--imasig=1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
