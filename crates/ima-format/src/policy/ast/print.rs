//! Rules and policies as text.
//!
//! Keys are in the order of `ima_policy_show`, in which the kernel prints its policy, except `digest_type`: it must
//! precede `appraise_type=sigv3`, or the kernel rejects its own output.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::{
    AppraiseType, IdTest, Identity, ItemContent, Key, MaskScope, NameList, Policy, Rule,
    SubjectTest,
};

impl Rule {
    /// Appends the rule to `text`, without a newline.
    pub fn write_to(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.action.name().as_bytes());
        // after `digest_type=verity` only `appraise_type=sigv3` is accepted
        let digest_type_last =
            self.appraise_type.is_some_and(|appraise_type| appraise_type != AppraiseType::Sigv3);
        let first = Key::ALL.iter().filter(|key| **key != Key::DigestType || !digest_type_last);
        let last = Some(&Key::DigestType).filter(|_| digest_type_last);
        for key in first.chain(last) {
            if let Some((symbol, value)) = self.value_of(*key) {
                text.push(b' ');
                text.extend_from_slice(key.name().as_bytes());
                text.extend_from_slice(symbol.as_bytes());
                text.extend_from_slice(&value);
            }
        }
    }

    /// The operator and the value of `key`, both empty for `permit_directio`; `None` if the rule does not have it.
    pub(super) fn value_of(&self, key: Key) -> Option<(String, Vec<u8>)> {
        let subject = |subject: Option<SubjectTest>, identity: Identity| {
            subject.filter(|subject| subject.identity == identity).map(|subject| subject.test)
        };
        let id = |test: IdTest| (String::from(test.comparison.symbol()), test.id.to_string());
        let (symbol, value) = match key {
            Key::Uid => id(subject(self.user, Identity::Real)?),
            Key::Euid => id(subject(self.user, Identity::Effective)?),
            Key::Gid => id(subject(self.group, Identity::Real)?),
            Key::Egid => id(subject(self.group, Identity::Effective)?),
            Key::Fowner => id(self.fowner?),
            Key::Fgroup => id(self.fgroup?),
            Key::PermitDirectio => {
                return self.permit_directio.then(|| (String::new(), Vec::new()));
            }
            _ => return self.bytes_of(key).map(|value| (String::from("="), value)),
        };
        Some((symbol, value.into_bytes()))
    }

    /// The value of a key that compares no id.
    fn bytes_of(&self, key: Key) -> Option<Vec<u8>> {
        let text = match key {
            Key::Func => String::from(self.func?.name()),
            Key::Mask => {
                let mask = self.mask?;
                let scope = match mask.scope {
                    MaskScope::Exactly => "",
                    MaskScope::Among => "^",
                };
                format!("{scope}{}", mask.access)
            }
            Key::Fsmagic => format!("0x{:x}", self.fsmagic?),
            Key::Fsuuid => self.fsuuid?.to_string(),
            Key::DigestType => String::from(self.digest_type?.name()),
            Key::AppraiseType => String::from(self.appraise_type?.name()),
            Key::AppraiseAlgos => self.appraise_algos?.to_string(),
            Key::Pcr => self.pcr?.to_string(),
            Key::Keyrings => return self.keyrings.as_ref().map(join),
            Key::Label => return self.label.as_ref().map(join),
            Key::Fsname => return Some(self.fsname.as_ref()?.as_bytes().to_vec()),
            Key::FsSubtype => return Some(self.fs_subtype.as_ref()?.as_bytes().to_vec()),
            Key::AppraiseFlag => return Some(self.appraise_flag.as_ref()?.as_bytes().to_vec()),
            Key::Template => return Some(self.template.as_ref()?.as_bytes().to_vec()),
            _ => return Some(self.labels.value(key)?.as_bytes().to_vec()),
        };
        Some(text.into_bytes())
    }
}

fn join(list: &NameList) -> Vec<u8> {
    let names: Vec<_> = list.names().iter().map(|name| name.as_bytes()).collect();
    names.join(&b'|')
}

/// The rule on one line; bytes that are not UTF-8 are replaced, but [`Rule::write_to`] keeps them.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Policy {
    /// The policy as text: one rule per line, with its comments and at most one empty line in a row. Parsing it
    /// gives the same policy.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for item in &self.items {
            if item.set_apart {
                text.push(b'\n');
            }
            match &item.content {
                ItemContent::Comment(comment) => text.extend_from_slice(comment),
                ItemContent::Rule(rule) => rule.write_to(&mut text),
            }
            if !item.remark.is_empty() {
                text.push(b' ');
                text.extend_from_slice(&item.remark);
            }
            text.push(b'\n');
        }
        text
    }
}

/// As [`Policy::to_bytes`], but bytes that are not UTF-8 are replaced.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}
