//! An event in words: on the command line, in JSON, and for people.

use std::path::PathBuf;

use clap::Args;
use ima_format::policy::ast::{Access, Func, Key, LsmConditions, Name, Uuid};
use ima_format::policy::decide::{AccessSet, Capability, Credentials, Event, FileFacts, Labels};
use ima_format::policy::filesystem;
use serde::{Deserialize, Deserializer};

use crate::error::{hinted, Context, Error, Result};

/// The event: what is left out is root, and a file of root's on ext4
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[command(next_help_heading = "Event")]
#[serde(default, deny_unknown_fields)]
pub(super) struct EventArgs {
    /// The hook: FILE_CHECK, MMAP_CHECK, BPRM_CHECK, MODULE_CHECK, ...
    #[arg(long, value_name = "FUNC")]
    pub(super) func: Option<String>,
    /// The access, if the hook is FILE_CHECK: MAY_READ, MAY_WRITE, MAY_READ|MAY_WRITE
    #[arg(long, value_name = "MASK")]
    pub(super) mask: Option<String>,
    /// The process's real user ID [default: 0]
    #[arg(long, value_name = "ID")]
    pub(super) uid: Option<u32>,
    /// Its effective user ID [default: the real one]
    #[arg(long, value_name = "ID")]
    pub(super) euid: Option<u32>,
    /// Its saved user ID [default: the effective one]
    #[arg(long, value_name = "ID")]
    pub(super) suid: Option<u32>,
    /// Its real group ID [default: 0]
    #[arg(long, value_name = "ID")]
    pub(super) gid: Option<u32>,
    /// Its effective group ID [default: the real one]
    #[arg(long, value_name = "ID")]
    pub(super) egid: Option<u32>,
    /// Its saved group ID [default: the effective one]
    #[arg(long, value_name = "ID")]
    pub(super) sgid: Option<u32>,
    /// Whether it has CAP_SETUID, for euid= [default: whether its effective user is root]
    #[arg(long, value_name = "BOOL")]
    pub(super) cap_setuid: Option<bool>,
    /// Whether it has CAP_SETGID, for egid= [default: whether its effective user is root]
    #[arg(long, value_name = "BOOL")]
    pub(super) cap_setgid: Option<bool>,
    /// The file's owner [default: 0]
    #[arg(long, value_name = "ID")]
    pub(super) fowner: Option<u32>,
    /// The file's group [default: 0]
    #[arg(long, value_name = "ID")]
    pub(super) fgroup: Option<u32>,
    /// The file system's type, as in /proc/filesystems [default: ext4]
    #[arg(long, value_name = "NAME")]
    pub(super) fsname: Option<String>,
    /// The file system's magic number [default: that of its type]
    #[arg(long, value_name = "HEX")]
    pub(super) fsmagic: Option<String>,
    /// The subtype of a FUSE file system
    #[arg(long, value_name = "NAME")]
    pub(super) fs_subtype: Option<String>,
    /// The file system's UUID
    #[arg(long, value_name = "UUID")]
    pub(super) fsuuid: Option<String>,
    /// The keyring, if the hook is KEY_CHECK
    #[arg(long, value_name = "NAME")]
    pub(super) keyring: Option<String>,
    /// The data's label, if the hook is CRITICAL_DATA
    #[arg(long, value_name = "NAME")]
    pub(super) label: Option<String>,
    /// A file, whose attribute, content, owner and permissions are used
    #[arg(long, value_name = "PATH", conflicts_with_all = ["attribute", "digest"])]
    pub(super) file: Option<PathBuf>,
    /// The security.ima of a file that is not available, in hexadecimal, or none
    #[arg(long, value_name = "HEX")]
    pub(super) attribute: Option<String>,
    /// The digest of that file, ALG:HEX; may be repeated
    #[arg(long, value_name = "DIGEST")]
    #[serde(deserialize_with = "one_or_more")]
    pub(super) digest: Vec<String>,
    /// A security label: obj_type=bin_t, subj_role=...; may be repeated [default: unknown]
    #[arg(long = "lsm", value_name = "KEY=LABEL")]
    pub(super) lsm: Vec<String>,
}

impl EventArgs {
    /// The event that the kernel looks up in its policy.
    pub(super) fn resolve(&self) -> Result<Event> {
        let Some(func) = &self.func else {
            return Err(hinted("no hook", "name it: --func BPRM_CHECK"));
        };
        let func = self.hook(func)?;
        let access = match &self.mask {
            None => func.access(),
            Some(mask) => access(mask)?,
        };
        let data = match func {
            Func::KeyCheck => self.keyring.as_ref(),
            Func::CriticalData => self.label.as_ref(),
            _ => None,
        };
        let about_file = !matches!(func, Func::KeyCheck | Func::CriticalData | Func::KexecCmdline);
        Ok(Event {
            func,
            access,
            credentials: self.credentials(),
            file: if about_file { Some(self.facts()?) } else { None },
            labels: self.labels()?,
            data: data.map(|name| name.clone().into_bytes()),
        })
    }

    fn hook(&self, name: &str) -> Result<Func> {
        let alias = Func::ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, func)| *func);
        Func::from_name(name.as_bytes()).or(alias).ok_or_else(|| {
            let known: Vec<_> = Func::ALL.iter().map(|func| func.name()).collect();
            Error::new(format!("unknown hook {name:?}; known: {}", known.join(", ")))
        })
    }

    fn credentials(&self) -> Credentials {
        let uid = self.uid.unwrap_or(0);
        let euid = self.euid.unwrap_or(uid);
        let gid = self.gid.unwrap_or(0);
        let egid = self.egid.unwrap_or(gid);
        let capability = |held: Option<bool>| match held.unwrap_or(euid == 0) {
            true => Capability::Held,
            false => Capability::Absent,
        };
        Credentials {
            uid,
            euid,
            suid: self.suid.unwrap_or(euid),
            gid,
            egid,
            sgid: self.sgid.unwrap_or(egid),
            cap_setuid: capability(self.cap_setuid),
            cap_setgid: capability(self.cap_setgid),
        }
    }

    fn facts(&self) -> Result<FileFacts> {
        let magic = self.fsmagic.as_deref().map(magic).transpose()?;
        let (fsname, fsmagic) = match (&self.fsname, magic) {
            (Some(name), Some(magic)) => (name.clone(), magic),
            (Some(name), None) => {
                let known = filesystem::with_name(name.as_bytes()).next();
                let known = known.with_context(|| {
                    format!("{name:?} is not a known file system: give --fsmagic, too")
                })?;
                (name.clone(), known.magic)
            }
            (None, Some(magic)) => {
                let known = filesystem::with_magic(magic).next();
                let known = known.with_context(|| {
                    format!(
                        "{magic:#x} is not the magic number of a known file system: give \
                    --fsname, too"
                    )
                })?;
                (known.name.to_owned(), magic)
            }
            (None, None) => (String::from("ext4"), 0xef53),
        };
        let fsuuid = match &self.fsuuid {
            None => Uuid::NULL,
            Some(text) => Uuid::parse(text.as_bytes()).with_context(|| {
                format!("not a UUID: {text:?}; blkid prints them as the kernel reads them")
            })?,
        };
        Ok(FileFacts {
            owner: self.fowner.unwrap_or(0),
            group: self.fgroup.unwrap_or(0),
            fsmagic,
            fsname: fsname.into_bytes(),
            fs_subtype: self.fs_subtype.clone().map(String::into_bytes),
            fsuuid,
        })
    }

    fn labels(&self) -> Result<Labels> {
        if self.lsm.is_empty() {
            return Ok(Labels::Unknown);
        }
        let mut labels = LsmConditions::default();
        for label in &self.lsm {
            let (key, value) = label.split_once('=').context("a label is KEY=LABEL")?;
            let value = Name::new(value.as_bytes()).context("a label without a value")?;
            let key = Key::labels().find(|known| known.name() == key);
            let known = "labels are obj_user, obj_role, obj_type, and subj_ likewise";
            labels.set(key.context(known)?, value);
        }
        Ok(Labels::Known(labels))
    }
}

/// A string, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Strings {
        One(String),
        More(Vec<String>),
    }
    Ok(match Strings::deserialize(deserializer)? {
        Strings::One(one) => vec![one],
        Strings::More(more) => more,
    })
}

fn access(text: &str) -> Result<AccessSet> {
    let mut set = AccessSet::NONE;
    for word in text.split(['|', ',']) {
        let Some(access) = Access::from_name(word.as_bytes()) else {
            return Err(Error::new(format!(
                "unknown access {word:?}; known: MAY_EXEC, MAY_WRITE, MAY_READ, MAY_APPEND"
            )));
        };
        set = set.with(access);
    }
    Ok(set)
}

fn magic(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .with_context(|| format!("not a magic number: {text:?}; they are hexadecimal: 0xef53"))
}

/// Describes an event in the words of [`EventArgs`]; defaults are left out.
pub(super) fn describe(event: &Event) -> String {
    let mut words = vec![format!("func={}", event.func)];
    let mut say = |key: &str, value: &dyn std::fmt::Display| words.push(format!("{key}={value}"));
    if event.access != event.func.access() {
        say("mask", &event.access);
    }
    let ids = &event.credentials;
    say("uid", &ids.uid);
    for (key, id, usual) in [
        ("euid", ids.euid, ids.uid),
        ("suid", ids.suid, ids.euid),
        ("gid", ids.gid, 0),
        ("egid", ids.egid, ids.gid),
        ("sgid", ids.sgid, ids.egid),
    ] {
        if id != usual {
            say(key, &id);
        }
    }
    // capabilities matter only if the IDs differ
    for (key, held, several) in [
        ("cap_setuid", ids.cap_setuid, [ids.euid, ids.suid] != [ids.uid; 2]),
        ("cap_setgid", ids.cap_setgid, [ids.egid, ids.sgid] != [ids.gid; 2]),
    ] {
        if several && (held == Capability::Held) != (ids.euid == 0) {
            say(key, &(held == Capability::Held));
        }
    }
    if let Some(file) = &event.file {
        say("fowner", &file.owner);
        if file.group != 0 {
            say("fgroup", &file.group);
        }
        let name = String::from_utf8_lossy(&file.fsname);
        say("fsname", &name);
        if filesystem::with_name(&file.fsname).all(|known| known.magic != file.fsmagic) {
            say("fsmagic", &format!("{:#x}", file.fsmagic));
        }
        if let Some(subtype) = &file.fs_subtype {
            say("fs_subtype", &String::from_utf8_lossy(subtype));
        }
        if file.fsuuid != Uuid::NULL {
            say("fsuuid", &file.fsuuid);
        }
    }
    if let Some(data) = &event.data {
        let key = if event.func == Func::KeyCheck { "keyring" } else { "label" };
        say(key, &String::from_utf8_lossy(data));
    }
    words.join(" ")
}
