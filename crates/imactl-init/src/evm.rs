//! How EVM is set up: dracut's variables, in files of its format and on the command line.
//!
//! | file | variable | word | default | |
//! |---|---|---|---|---|
//! | `etc/sysconfig/evm` | `EVMX509` | `evmx509=` | `/etc/keys/x509_evm.der` | a certificate for `.evm` |
//! | | `EVMKEYSDIR` | | `/etc/keys/evm` | a directory with more of them (`*.der`) |
//! | | `EVMKEY` | `evmkey=` | `/etc/keys/evm-trusted.blob` | the encrypted HMAC key |
//! | | `EVMKEYTYPE`, `EVMKEYDESC` | | `encrypted`, `evm-key` | its type and name |
//! | | `EVM_ACTIVATION_BITS` | | `0` | bits for securityfs' `evm` besides those of the keys |
//! | | `EVM_XATTRS` | | | names for securityfs' `evm_xattrs`, separated by spaces (not of dracut) |
//! | `etc/sysconfig/masterkey` | `MASTERKEY` | `masterkey=` | `/etc/keys/kmk-TYPE.blob` | the key that the HMAC key is encrypted with |
//! | | `MASTERKEYTYPE` | `masterkeytype=` | `trusted` | its type |
//!
//! dracut has a shell read the files. Here a line is an assignment or a comment; a value that only a
//! shell could expand is an error.

use alloc::vec::Vec;

use ima_format::boot::Words;

/// The bits of securityfs' `evm` (`security/integrity/evm/evm.h`).
pub mod bits {
    /// `EVM_INIT_HMAC`: the HMAC key is loaded.
    pub const HMAC: u32 = 1;
    /// `EVM_INIT_X509`: certificates are loaded.
    pub const X509: u32 = 2;
    /// `EVM_ALLOW_METADATA_WRITES`: metadata may be changed although it becomes invalid.
    pub const METADATA_WRITES: u32 = 4;
    /// `EVM_SETUP_COMPLETE`: the bits can no longer change.
    pub const COMPLETE: u32 = 1 << 31;
}

/// The files, by names relative to a tree.
pub const FILE: &[u8] = b"etc/sysconfig/evm";
/// The file of the master key, likewise.
pub const MASTER_FILE: &[u8] = b"etc/sysconfig/masterkey";

/// The values of the variables; paths are relative to a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// `EVMX509`.
    pub certificate: Vec<u8>,
    /// `EVMKEYSDIR`.
    pub certificates: Vec<u8>,
    /// `EVMKEY`, if it is set: then the file must exist.
    pub key: Option<Vec<u8>>,
    /// `EVMKEYTYPE`.
    pub key_type: Vec<u8>,
    /// `EVMKEYDESC`.
    pub key_name: Vec<u8>,
    /// `EVM_ACTIVATION_BITS`.
    pub bits: u32,
    /// `EVM_XATTRS`: attributes that EVM covers after those of the kernel's configuration, in this order.
    pub attributes: Vec<Vec<u8>>,
    /// `MASTERKEY`, if it is set.
    pub master_key: Option<Vec<u8>>,
    /// `MASTERKEYTYPE`.
    pub master_key_type: Vec<u8>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            certificate: b"etc/keys/x509_evm.der".into(),
            certificates: b"etc/keys/evm".into(),
            key: None,
            key_type: b"encrypted".into(),
            key_name: b"evm-key".into(),
            bits: 0,
            attributes: Vec::new(),
            master_key: None,
            master_key_type: b"trusted".into(),
        }
    }
}

/// A value that only a shell could expand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The line.
    pub line: Vec<u8>,
}

impl Configuration {
    /// Reads the assignments of a file.
    pub fn read(&mut self, text: &[u8]) -> Result<(), NotUnderstood> {
        for line in text.split(|&byte| byte == b'\n') {
            let mut words = Words::new(line).filter(|(name, _)| *name != b"export");
            let is_comment = |(word, _): (&[u8], _)| word.starts_with(b"#");
            match (words.next(), words.next()) {
                (None, _) => {}
                (Some(first), _) if is_comment(first) => {}
                (Some((name, Some(value))), next) if next.map_or(true, is_comment) => {
                    self.assign(name, value).ok_or_else(|| NotUnderstood { line: line.into() })?;
                }
                _ => return Err(NotUnderstood { line: line.into() }),
            }
        }
        Ok(())
    }

    /// Reads a word of the command line, if it is one of these.
    pub fn take(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"evmkey" => self.key = Some(relative(value)),
            b"evmx509" => self.certificate = relative(value),
            b"masterkey" => self.master_key = Some(relative(value)),
            b"masterkeytype" => self.master_key_type = value.into(),
            _ => {}
        }
    }

    fn assign(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if value.iter().any(|byte| b"$`\\'\"".contains(byte)) {
            return None;
        }
        match name {
            b"EVMX509" => self.certificate = relative(value),
            b"EVMKEYSDIR" => self.certificates = relative(value),
            b"EVMKEY" => self.key = Some(relative(value)),
            b"EVMKEYTYPE" => self.key_type = value.into(),
            b"EVMKEYDESC" => self.key_name = value.into(),
            b"EVM_ACTIVATION_BITS" => self.bits = number(value)?,
            b"EVM_XATTRS" => self.attributes = attributes(value)?,
            b"MASTERKEY" => self.master_key = Some(relative(value)),
            b"MASTERKEYTYPE" => self.master_key_type = value.into(),
            // the name of the master key would then depend on the kernel
            b"MULTIKERNELMODE" if value != b"NO" => return None,
            _ => {}
        }
        Some(())
    }

    /// The path of the HMAC key.
    pub fn key_path(&self) -> &[u8] {
        self.key.as_deref().unwrap_or(b"etc/keys/evm-trusted.blob")
    }

    /// The path of the master key.
    pub fn master_key_path(&self) -> Vec<u8> {
        let default = || [b"etc/keys/kmk-", &*self.master_key_type, b".blob"].concat();
        self.master_key.clone().unwrap_or_else(default)
    }

    /// The payload of the master key in the form that `add_key` accepts: for a trusted key, the one
    /// that dracut passes, too.
    pub fn master_key_payload(&self, blob: &[u8]) -> Vec<u8> {
        match &*self.master_key_type {
            b"trusted" => [b"load ", blob].concat(),
            _ => blob.into(),
        }
    }
}

fn relative(path: &[u8]) -> Vec<u8> {
    let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    path.get(start..).unwrap_or_default().into()
}

/// Names of attributes. The kernel takes no others than `security.*` (`evm_write_xattrs`), and no value of
/// `security.evm` could cover itself.
fn attributes(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let names = value.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty());
    let is_possible = |name: &[u8]| {
        name.len() <= 255 && name.starts_with(b"security.") && name != b"security.evm"
    };
    names.map(|name| is_possible(name).then(|| name.into())).collect()
}

/// A number as in a shell's arithmetic: decimal, octal after `0`, or hexadecimal after `0x`.
fn number(text: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(text).ok()?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        // octal
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Configuration, NotUnderstood> {
        let mut configuration = Configuration::default();
        configuration.read(text.as_bytes()).map(|()| configuration)
    }

    #[test]
    fn variables_are_those_of_dracut() {
        let text = "# EVM\n\nEVMKEY=\"/etc/keys/evm-user.blob\"\nexport EVMX509=/a.der # mine\n\
            EVMKEYSDIR=/etc/more\nEVM_ACTIVATION_BITS=0x80000000\nOTHER=1\nMASTERKEYTYPE=user\n";
        let read = read(text).unwrap();
        assert_eq!(read.key_path(), b"etc/keys/evm-user.blob");
        assert_eq!((&*read.certificate, &*read.certificates), (&b"a.der"[..], &b"etc/more"[..]));
        assert_eq!(read.bits, bits::COMPLETE);
        assert_eq!(read.master_key_path(), b"etc/keys/kmk-user.blob");
        assert_eq!(read.master_key_payload(b"secret"), b"secret");
    }

    #[test]
    fn attributes_are_in_their_order() {
        let read = read("EVM_XATTRS=\"security.b  security.a\" # both\n").unwrap();
        assert_eq!(read.attributes, [b"security.b", b"security.a"]);
        for value in ["user.a", "\"security.a .\"", "security.evm"] {
            let line = alloc::format!("EVM_XATTRS={value}");
            let error = super::Configuration::default().read(line.as_bytes()).unwrap_err();
            assert_eq!(error.line, line.as_bytes());
        }
    }

    #[test]
    fn defaults_are_those_of_dracut() {
        let read = read("").unwrap();
        assert_eq!(read, Configuration::default());
        assert_eq!(read.key_path(), b"etc/keys/evm-trusted.blob");
        assert_eq!(read.master_key_path(), b"etc/keys/kmk-trusted.blob");
        assert_eq!(read.master_key_payload(b"00"), b"load 00");
    }

    #[test]
    fn what_needs_a_shell_is_not_guessed() {
        for line in [
            "EVMKEY=$HOME/key",
            "EVMKEY='/etc/key'",
            "EVMKEY=`pwd`",
            "EVM_ACTIVATION_BITS=many",
            "EVM_ACTIVATION_BITS=0x1ffffffff",
            "EVMKEY=/a; rm /b",
            "MULTIKERNELMODE=YES",
            "if true; then",
        ] {
            let error = read(&alloc::format!("EVMX509=/a\n{line}\n")).unwrap_err();
            assert_eq!(error.line, line.as_bytes(), "{line}");
        }
    }

    #[test]
    fn the_command_line_overrides_paths() {
        let mut read = read("EVMKEY=/a\nMASTERKEY=/b\n").unwrap();
        read.take(b"evmkey", b"/c");
        read.take(b"masterkey", b"/d");
        read.take(b"evmx509", b"/e");
        assert_eq!((read.key_path(), &*read.master_key_path()), (&b"c"[..], &b"d"[..]));
        assert_eq!(read.certificate, b"e");
    }

    #[test]
    fn numbers_are_those_of_a_shell() {
        for (text, expected) in
            [("0", 0), ("8", 8), ("010", 8), ("0xA", 10), ("2147483648", 1 << 31)]
        {
            assert_eq!(number(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["", "0x", "-1", "1+1"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }
}
