//! URIs of keys on tokens (RFC 7512).
//!
//! ```text
//! pkcs11:token=Vault;object=signer;type=private?module-path=/usr/lib/p11.so&pin-source=file:/pin
//!        path: attributes that all have to match        query: how to reach it
//! ```
//!
//! | attribute | of | form |
//! |---|---|---|
//! | `library-manufacturer`, `library-description` | `CK_INFO` | text |
//! | `library-version` | `CK_INFO` | `3` or `3.1` |
//! | `slot-manufacturer`, `slot-description` | `CK_SLOT_INFO` | text |
//! | `slot-id` | `CK_SLOT_ID` | decimal |
//! | `token`, `manufacturer`, `serial`, `model` | `CK_TOKEN_INFO` | text |
//! | `object` | `CKA_LABEL` | text |
//! | `type` | `CKA_CLASS` | `private`, `public`, `cert`, `secret-key`, `data` |
//! | `id` | `CKA_ID` | bytes |
//! | `module-path`, `module-name` | query | bytes |
//! | `pin-source` | query | `file:` URI or path |
//! | `pin-value` | query | refused |
//!
//! Characters other than those of the RFC (2.3: letters, digits, `-._~`, `:[]@!$'()*+,=`, `&` in the path,
//! `/?|` in the query) are written `%XX`. An attribute that is not in the table is rejected, even where the
//! RFC lets a vendor define it: it is not known which objects it would select.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::{Error, ErrorKind};

const SCHEME: &[u8] = b"pkcs11:";

/// Whether this is meant as a PKCS #11 URI: it begins with `pkcs11:`, in any case (RFC 3986, 3.1).
pub fn is_uri(text: &[u8]) -> bool {
    text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// The attributes of a URI; one that is `None` matches any value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the attributes'
pub struct Uri {
    pub library_manufacturer: Option<String>,
    pub library_description: Option<String>,
    pub library_version: Option<Version>,
    pub slot_manufacturer: Option<String>,
    pub slot_description: Option<String>,
    pub slot_id: Option<u64>,
    pub token: Option<String>,
    pub manufacturer: Option<String>,
    pub serial: Option<String>,
    pub model: Option<String>,
    pub object: Option<String>,
    pub class: Option<Class>,
    pub id: Option<Vec<u8>>,
    /// The module's file, or its directory.
    pub module_path: Option<Vec<u8>>,
    /// The module's file name, without `lib` before it and `.so` after it.
    pub module_name: Option<Vec<u8>>,
    /// The file that has the PIN.
    pub pin_source: Option<Vec<u8>>,
}

/// A library's version (`CK_VERSION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
}

spelled! {
    /// An object's class (`CKA_CLASS`), as `type=` spells it.
    #[allow(missing_docs)]
    Class {
        Private = "private",
        Public = "public",
        Certificate = "cert",
        SecretKey = "secret-key",
        Data = "data",
    }
}

/// A fault of a URI. No value is repeated: it may be a PIN.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It does not begin with `pkcs11:`.
    Scheme,
    /// An attribute has no `=`.
    NoValue,
    /// An attribute that RFC 7512 does not define for this part of the URI.
    UnknownAttribute(String),
    /// An attribute is given twice.
    Duplicate(&'static str),
    /// `%` is not followed by two hexadecimal digits.
    Escape,
    /// A character must be written as `%XX`.
    Unescaped(u8),
    /// The value of a text attribute is not UTF-8.
    NotText,
    /// A value is not a number, or too large.
    NotANumber,
    /// A `type` that RFC 7512 does not define.
    NoClass,
    /// The PIN is in the URI itself.
    PinValue,
    /// A `pin-source` that is neither a path nor a `file:` URI of this machine.
    PinSource,
}

impl Fault {
    /// How to fix it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Scheme | Self::NoValue => {
                "the form is pkcs11:token=NAME;object=NAME?module-path=FILE (RFC 7512)"
            }
            Self::UnknownAttribute(_) => {
                "before the ?: token, manufacturer, serial, model, object, id, type, slot-*, \
                 library-*, with ; between; after it: module-path, module-name, pin-source, \
                 with & between"
            }
            Self::Duplicate(_) => "an attribute is given once",
            Self::Escape | Self::Unescaped(_) => {
                "write it as % and two hexadecimal digits: %20 for a space, %25 for %"
            }
            Self::NotText => "labels are UTF-8; an id may be any bytes",
            Self::NotANumber => "slot-id=NUMBER, library-version=MAJOR or MAJOR.MINOR",
            Self::NoClass => "type is private, public, cert, secret-key or data",
            Self::PinValue => {
                "everybody on this machine can read it in the list of processes: change the \
                 PIN, then use pin-source=file:PATH, --passphrase-file, -env or -fd, or type it"
            }
            Self::PinSource => "a path, or file: and an absolute path; programs are not run",
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Pkcs11(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("does not begin with pkcs11:"),
            Self::NoValue => f.write_str("attribute without ="),
            Self::UnknownAttribute(name) => write!(f, "no attribute {name:?} here"),
            Self::Duplicate(name) => write!(f, "{name} given twice"),
            Self::Escape => f.write_str("% without two hexadecimal digits"),
            Self::Unescaped(byte @ 0x21..=0x7e) => {
                write!(f, "{:?} must be written %{byte:02X}", char::from(*byte))
            }
            Self::Unescaped(byte) => write!(f, "byte 0x{byte:02x} must be written %{byte:02X}"),
            Self::NotText => f.write_str("not UTF-8"),
            Self::NotANumber => f.write_str("not a number that fits"),
            Self::NoClass => f.write_str("no such type of object"),
            Self::PinValue => f.write_str("pin-value: a PIN does not belong into a URI"),
            Self::PinSource => f.write_str("pin-source names no file of this machine"),
        }
    }
}

/// A part of a URI and its offset.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Part<'a> {
    fn fault(self, fault: Fault) -> Error {
        Error::new(fault, self.offset)
    }

    /// The parts before and after the first `separator`.
    fn split_once(self, separator: u8) -> Option<(Self, Self)> {
        let at = self.bytes.iter().position(|&byte| byte == separator)?;
        let (head, tail) = (self.bytes.get(..at)?, self.bytes.get(at + 1..)?);
        Some((
            Self { bytes: head, offset: self.offset },
            Self { bytes: tail, offset: self.offset + at + 1 },
        ))
    }

    /// The attributes in it; an empty part has none.
    fn attributes(self, separator: u8) -> impl Iterator<Item = Self> + 'a {
        let mut left = Some(self).filter(|part| !part.bytes.is_empty());
        core::iter::from_fn(move || {
            let part = left?;
            let (head, tail) = match part.split_once(separator) {
                Some((head, tail)) => (head, Some(tail)),
                None => (part, None),
            };
            left = tail;
            Some(head)
        })
    }

    fn decode(self, component: Component) -> Result<Vec<u8>, Error> {
        let mut decoded = Vec::with_capacity(self.bytes.len());
        let mut bytes = self.bytes;
        while let [byte, rest @ ..] = bytes {
            let at = |fault| Error::new(fault, self.offset + self.bytes.len() - bytes.len());
            match *byte {
                b'%' => {
                    let digits = rest.get(..2).ok_or_else(|| at(Fault::Escape))?;
                    let value = crate::hex::decode(digits).map_err(|_| at(Fault::Escape))?;
                    decoded.extend_from_slice(&value);
                    bytes = rest.get(2..).unwrap_or_default();
                }
                byte if component.allows(byte) => {
                    decoded.push(byte);
                    bytes = rest;
                }
                byte => return Err(at(Fault::Unescaped(byte))),
            }
        }
        Ok(decoded)
    }

    fn text(self, component: Component) -> Result<String, Error> {
        String::from_utf8(self.decode(component)?).map_err(|_| self.fault(Fault::NotText))
    }

    fn number<N: core::str::FromStr>(self) -> Result<N, Error> {
        let digits = core::str::from_utf8(self.bytes).ok();
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|text| text.parse().ok()).ok_or_else(|| self.fault(Fault::NotANumber))
    }

    fn version(self) -> Result<Version, Error> {
        Ok(match self.split_once(b'.') {
            Some((major, minor)) => Version { major: major.number()?, minor: minor.number()? },
            None => Version { major: self.number()?, minor: 0 },
        })
    }

    fn class(self) -> Result<Class, Error> {
        Class::from_name(self.bytes).ok_or_else(|| self.fault(Fault::NoClass))
    }

    /// A path, or a `file:` URI without a remote host (RFC 8089).
    fn pin_source(self) -> Result<Vec<u8>, Error> {
        let value = self.decode(Component::Query)?;
        let path = match value.strip_prefix(b"file:") {
            Some(path) => {
                let path = path.strip_prefix(b"//localhost").unwrap_or(path);
                let path = path.strip_prefix(b"//").unwrap_or(path);
                Some(path).filter(|path| path.first() == Some(&b'/'))
            }
            None if value.starts_with(b"/") => Some(&*value),
            // a URI of another scheme, or a program's name after `|`, is not a path
            None => Some(&*value).filter(|path| !path.starts_with(b"|") && !path.contains(&b':')),
        };
        match path {
            Some(path) if !path.is_empty() => Ok(path.to_vec()),
            _ => Err(self.fault(Fault::PinSource)),
        }
    }
}

/// The parts of a URI; each has its own set of characters that need no escape.
#[derive(Clone, Copy)]
enum Component {
    Path,
    Query,
}

impl Component {
    fn allows(self, byte: u8) -> bool {
        match byte {
            b'&' => matches!(self, Self::Path),
            b'/' | b'?' | b'|' => matches!(self, Self::Query),
            _ => byte.is_ascii_alphanumeric() || b"-._~:[]@!$'()*+,=".contains(&byte),
        }
    }
}

/// Sets an attribute that may be given once.
fn set<T>(
    slot: &mut Option<T>,
    name: &'static str,
    attribute: Part<'_>,
    value: T,
) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(attribute.fault(Fault::Duplicate(name))),
    }
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    /// A [`Fault`] with its offset, without any value.
    pub fn parse(uri: &[u8]) -> Result<Self, Error> {
        let whole = Part { bytes: uri, offset: 0 };
        let Some(bytes) = uri.get(SCHEME.len()..).filter(|_| is_uri(uri)) else {
            return Err(whole.fault(Fault::Scheme));
        };
        let rest = Part { bytes, offset: SCHEME.len() };
        let (path, query) = match rest.split_once(b'?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut parsed = Self::default();
        path.attributes(b';').try_for_each(|attribute| parsed.path_attribute(attribute))?;
        if let Some(query) = query {
            query.attributes(b'&').try_for_each(|attribute| parsed.query_attribute(attribute))?;
        }
        Ok(parsed)
    }

    fn path_attribute(&mut self, attribute: Part<'_>) -> Result<(), Error> {
        let Some((name, value)) = attribute.split_once(b'=') else {
            return Err(attribute.fault(Fault::NoValue));
        };
        macro_rules! texts {
            ($($name:literal => $field:ident,)+) => {
                match name.bytes {
                    $(bytes if bytes == $name.as_bytes() => {
                        let text = value.text(Component::Path)?;
                        set(&mut self.$field, $name, attribute, text)
                    })+
                    b"slot-id" => set(&mut self.slot_id, "slot-id", attribute, value.number()?),
                    b"library-version" => {
                        let version = value.version()?;
                        set(&mut self.library_version, "library-version", attribute, version)
                    }
                    b"type" => set(&mut self.class, "type", attribute, value.class()?),
                    b"id" => set(&mut self.id, "id", attribute, value.decode(Component::Path)?),
                    _ => Err(unknown(name)),
                }
            };
        }
        texts! {
            "library-manufacturer" => library_manufacturer,
            "library-description" => library_description,
            "slot-manufacturer" => slot_manufacturer,
            "slot-description" => slot_description,
            "token" => token,
            "manufacturer" => manufacturer,
            "serial" => serial,
            "model" => model,
            "object" => object,
        }
    }

    fn query_attribute(&mut self, attribute: Part<'_>) -> Result<(), Error> {
        let Some((name, value)) = attribute.split_once(b'=') else {
            return Err(attribute.fault(Fault::NoValue));
        };
        let bytes = || value.decode(Component::Query);
        match name.bytes {
            b"module-path" => set(&mut self.module_path, "module-path", attribute, bytes()?),
            b"module-name" => set(&mut self.module_name, "module-name", attribute, bytes()?),
            b"pin-source" => {
                set(&mut self.pin_source, "pin-source", attribute, value.pin_source()?)
            }
            b"pin-value" => Err(attribute.fault(Fault::PinValue)),
            _ => Err(unknown(name)),
        }
    }
}

/// The fault of an unknown attribute; its name is shortened, since it may be anything.
fn unknown(name: Part<'_>) -> Error {
    let shown = name.bytes.get(..name.bytes.len().min(40)).unwrap_or_default();
    name.fault(Fault::UnknownAttribute(String::from_utf8_lossy(shown).into_owned()))
}

/// Escapes bytes; [`Part::decode`] is the inverse.
fn encode(bytes: &[u8], component: Component, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|&byte| match component.allows(byte) {
        true => f.write_char(char::from(byte)),
        false => write!(f, "%{byte:02X}"),
    })
}

/// The URI, in the order of the table above; parsing it gives the same value.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pkcs11:")?;
        let mut separator = "";
        let mut name = |name: &str, f: &mut fmt::Formatter<'_>| {
            write!(f, "{separator}{name}=")?;
            separator = ";";
            Ok(())
        };
        for (attribute, value) in [
            ("library-manufacturer", &self.library_manufacturer),
            ("library-description", &self.library_description),
            ("slot-manufacturer", &self.slot_manufacturer),
            ("slot-description", &self.slot_description),
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("serial", &self.serial),
            ("model", &self.model),
            ("object", &self.object),
        ] {
            if let Some(value) = value {
                name(attribute, f)?;
                encode(value.as_bytes(), Component::Path, f)?;
            }
        }
        if let Some(Version { major, minor }) = self.library_version {
            name("library-version", f)?;
            write!(f, "{major}.{minor}")?;
        }
        if let Some(slot_id) = self.slot_id {
            name("slot-id", f)?;
            write!(f, "{slot_id}")?;
        }
        if let Some(id) = &self.id {
            name("id", f)?;
            id.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
        }
        if let Some(class) = self.class {
            name("type", f)?;
            f.write_str(class.name())?;
        }
        let mut separator = '?';
        for (attribute, value) in [
            ("module-path", &self.module_path),
            ("module-name", &self.module_name),
            ("pin-source", &self.pin_source),
        ] {
            if let Some(value) = value {
                write!(f, "{separator}{attribute}=")?;
                if attribute == "pin-source" && value.first() == Some(&b'/') {
                    f.write_str("file://")?;
                }
                encode(value, Component::Query, f)?;
                separator = '&';
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use std::string::ToString;

    fn parse(uri: &str) -> Uri {
        let parsed = Uri::parse(uri.as_bytes()).unwrap();
        assert_eq!(Uri::parse(parsed.to_string().as_bytes()), Ok(parsed.clone()), "{parsed}");
        parsed
    }

    #[track_caller]
    fn refuses(uri: &str, fault: Fault, offset: usize) {
        assert_eq!(Uri::parse(uri.as_bytes()), Err(Error::new(fault, offset)), "{uri}");
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// RFC 7512, section 3, but for those that are refused below.
    #[test]
    fn reads_the_examples_of_the_rfc() {
        assert_eq!(parse("pkcs11:"), Uri::default());
        let public = parse("pkcs11:object=my-pubkey;type=public");
        assert_eq!((public.object, public.class), (text("my-pubkey"), Some(Class::Public)));
        let private = parse("pkcs11:object=my-key;type=private?pin-source=file:/etc/token");
        assert_eq!(private.pin_source, Some(b"/etc/token".to_vec()));
        let certificate = parse(
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;\
             model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;\
             serial=?pin-source=file:/etc/token_pin",
        );
        assert_eq!(
            certificate,
            Uri {
                token: text("The Software PKCS#11 Softtoken"),
                manufacturer: text("Snake Oil, Inc."),
                model: text("1.0"),
                object: text("my-certificate"),
                class: Some(Class::Certificate),
                id: Some(b"\x69\x95\x3e\x5c\xf4\xbd\xec\x91".to_vec()),
                serial: text(""),
                pin_source: Some(b"/etc/token_pin".to_vec()),
                ..Uri::default()
            }
        );
        let named = parse("pkcs11:object=my-sign-key;type=private?module-name=mypkcs11");
        assert_eq!(named.module_name, Some(b"mypkcs11".to_vec()));
        let path = "pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1";
        assert_eq!(parse(path).module_path, Some(b"/mnt/libmypkcs11.so.1".to_vec()));
        let slot = parse("pkcs11:slot-description=Sun%20Metaslot");
        assert_eq!(slot.slot_description, text("Sun Metaslot"));
        let library = parse(
            "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;\
             library-description=Soft%20Token%20Library;library-version=1.23",
        );
        assert_eq!(library.library_version, Some(Version { major: 1, minor: 23 }));
        assert_eq!(library.library_description, text("Soft Token Library"));
        let joe = parse(
            "pkcs11:token=My%20token%25%20created%20by%20Joe;\
             library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06",
        );
        assert_eq!(joe.token, text("My token% created by Joe"));
        assert_eq!(joe.library_version, Some(Version { major: 3, minor: 0 }));
        assert_eq!(joe.id, Some(b"\x01\x02\x03\xba\xdd\xca\xfe\x04\x05\x06".to_vec()));
        let separators = "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;type=cert";
        assert_eq!(parse(separators).token, text("A name with a substring %;"));
        let acute = "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;type=cert";
        assert_eq!(parse(acute).token, text("Name with a small A with acute: á"));
    }

    #[test]
    fn reads_what_people_write() {
        assert!(is_uri(b"PKCS11:") && is_uri(b"pkcs11:a") && !is_uri(b"pkcs11") && !is_uri(b""));
        let ours = "PKCS11:slot-id=18446744073709551615;object=a=b&c?module-path=/a?b|c";
        assert_eq!(parse(ours).slot_id, Some(u64::MAX));
        assert_eq!(parse(ours).object, text("a=b&c"));
        assert_eq!(parse(ours).module_path, Some(b"/a?b|c".to_vec()));
        for (source, path) in [
            ("file:/pin", "/pin"),
            ("file:///pin%20of%20mine", "/pin of mine"),
            ("file://localhost/pin", "/pin"),
            ("file:////pin", "//pin"),
            ("/run/pin:1", "/run/pin:1"),
            ("pins/mine", "pins/mine"),
        ] {
            let uri = parse(&std::format!("pkcs11:?pin-source={source}"));
            assert_eq!(uri.pin_source, Some(path.as_bytes().to_vec()), "{source}");
        }
        assert_eq!(parse("pkcs11:id=abc").id, Some(b"abc".to_vec()));
    }

    #[test]
    fn tells_what_is_wrong_and_where() {
        refuses("", Fault::Scheme, 0);
        refuses("pkcs12:token=a", Fault::Scheme, 0);
        refuses("pkcs11:token", Fault::NoValue, 7);
        refuses("pkcs11:token=a;", Fault::NoValue, 15);
        refuses("pkcs11:token=a;;model=b", Fault::NoValue, 15);
        refuses("pkcs11:token=a;token=b", Fault::Duplicate("token"), 15);
        refuses("pkcs11:id=a;type=cert;id=b", Fault::Duplicate("id"), 22);
        refuses("pkcs11:token=a%2", Fault::Escape, 14);
        refuses("pkcs11:token=a%zz", Fault::Escape, 14);
        refuses("pkcs11:token=my token", Fault::Unescaped(b' '), 15);
        refuses("pkcs11:token=a/b", Fault::Unescaped(b'/'), 14);
        refuses("pkcs11:token=á", Fault::Unescaped(0xc3), 13);
        refuses("pkcs11:token=a#b", Fault::Unescaped(b'#'), 14);
        refuses("pkcs11:token=%ff", Fault::NotText, 13);
        refuses("pkcs11:slot-id=x", Fault::NotANumber, 15);
        refuses("pkcs11:slot-id=+1", Fault::NotANumber, 15);
        refuses("pkcs11:slot-id=18446744073709551616", Fault::NotANumber, 15);
        refuses("pkcs11:library-version=1.256", Fault::NotANumber, 25);
        refuses("pkcs11:library-version=1.", Fault::NotANumber, 25);
        refuses("pkcs11:type=key", Fault::NoClass, 12);
        refuses("pkcs11:?pin-source=|/usr/bin/pin", Fault::PinSource, 19);
        refuses("pkcs11:?pin-source=file://server/pin", Fault::PinSource, 19);
        refuses("pkcs11:?pin-source=https://server/pin", Fault::PinSource, 19);
        refuses("pkcs11:?pin-source=", Fault::PinSource, 19);
    }

    #[test]
    fn refuses_vendors_attributes() {
        let unknown = |name: &str| Fault::UnknownAttribute(name.to_owned());
        refuses("pkcs11:token=a;vendor-aaa=value-a", unknown("vendor-aaa"), 15);
        refuses("pkcs11:token=a?vendor-bbb=value-b", unknown("vendor-bbb"), 15);
        refuses("pkcs11:module-path=/m.so", unknown("module-path"), 7);
        refuses("pkcs11:?token=a", unknown("token"), 8);
    }

    #[test]
    fn refuses_a_pin_without_showing_it() {
        refuses("pkcs11:token=a?pin-value=the-pin", Fault::PinValue, 15);
        let error = Uri::parse(b"pkcs11:token=a?pin-value=the-pin").unwrap_err();
        assert!(!std::format!("{error} {error:?}").contains("the-pin"));
    }
}
