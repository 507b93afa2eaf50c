//! One line to one [`Rule`]: `ima_parse_rule`.
//!
//! Words are parsed from left to right, and some orders matter: `template=` needs `measure` before it; before
//! Linux 7.1, `appraise_type=sigv3` needs `digest_type=verity` before it. Of keys that may be repeated the last
//! one counts: `fsname`, `pcr`, `fsmagic` after `fsmagic=0`, `fsuuid` after one of zeros; flags of
//! `appraise_type=` accumulate. Since Linux 6.14 a word that begins with `#` ends the rule.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::validate::validate;
use super::word::{token, Token};
use super::{tail, Loading};
use crate::hash::HashAlgorithm;
use crate::policy::ast::{
    Access, Action, AlgorithmSet, AppraiseType, Comparison, DigestType, Func, IdTest, Identity,
    Item, ItemContent, Key, Mask, MaskScope, Name, NameList, Position, Rule, SubjectTest, Uuid,
};
use crate::policy::fault::{quoted, Fault};
use crate::policy::kernel::{
    Available, Built, Feature, InForce, Kernel, LongSize, LsmRules, TEMPLATES,
};
use crate::policy::lexer::{Line, Span, Word};
use crate::policy::number::{self, NumberFault};
use crate::policy::suggest::nearest;

/// Parses a line that has a rule.
pub(super) fn read(
    line: &Line<'_>,
    kernel: &Kernel,
    loading: Loading,
) -> Result<Item, (Fault, Span)> {
    let mut reader = RuleReader {
        kernel,
        loading,
        action: None,
        // a placeholder: the action is set at the end, and is in `action` until then
        rule: Rule::new(Action::Measure),
        position: Position { line: line.number, ..Position::default() },
    };
    let mut whole: Option<Span> = None;
    let mut remark = Vec::new();
    for word in line.words() {
        if word.bytes.starts_with(b"#") && kernel.version.has(Feature::TrailingComments) {
            remark = tail(line, word.span.start - line.span.start).to_vec();
            break;
        }
        whole = Some(Span { start: whole.map_or(word.span.start, |span| span.start), ..word.span });
        reader.word(&word)?;
    }
    let RuleReader { action, mut rule, mut position, .. } = reader;
    position.span = whole.unwrap_or(line.span);
    rule.action = action.ok_or((Fault::NoAction, position.span))?;
    // the kernel does not observe this order in its own output
    let fault = match (rule.digest_type, rule.appraise_type) {
        _ if kernel.version.has(Feature::FileSigv3) => None,
        (None, Some(AppraiseType::Sigv3 | AppraiseType::Sigv3OrModsig)) => {
            Some(Fault::Sigv3NeedsVerity)
        }
        (Some(_), Some(AppraiseType::Sigv3OrModsig)) => Some(Fault::Sigv3ExcludesModsig),
        (Some(_), Some(AppraiseType::Imasig | AppraiseType::ImasigOrModsig)) => {
            Some(Fault::VerityNeedsSigv3)
        }
        _ => None,
    };
    if let Some(fault) = fault {
        return Err((fault, position.of(Key::AppraiseType)));
    }
    match validate(&rule, kernel) {
        Ok(()) => Ok(Item { set_apart: false, position, content: ItemContent::Rule(rule), remark }),
        Err((fault, Some(key))) => Err((fault, position.of(key))),
        Err((fault, None)) => Err((fault, position.action)),
    }
}

struct RuleReader<'a> {
    kernel: &'a Kernel,
    loading: Loading,
    action: Option<Action>,
    rule: Rule,
    position: Position,
}

impl RuleReader<'_> {
    fn word(&mut self, word: &Word<'_>) -> Result<(), (Fault, Span)> {
        match token(word.bytes).map_err(|fault| (fault, word.span))? {
            Token::Action(action) => {
                self.position.action = word.span;
                self.action(action).map_err(|fault| (fault, word.span))
            }
            Token::Flag(key) => {
                self.position.keys.push((key, word.span));
                self.rule.permit_directio = true;
                Ok(())
            }
            Token::Condition { key, comparison, value } => {
                self.position.keys.push((key, word.span));
                let start = word.span.end - value.len();
                let span = Span { start, end: word.span.end };
                self.require(key.since(), key.name()).map_err(|fault| (fault, word.span))?;
                self.condition(key, comparison, value).map_err(|fault| match fault {
                    Fault::Repeated(_) | Fault::DigestTypeAfterAppraiseType => (fault, word.span),
                    fault => (fault, span),
                })
            }
        }
    }

    /// Rejects a feature of a later version.
    fn require(&self, feature: Option<Feature>, what: &str) -> Result<(), Fault> {
        match feature {
            Some(feature) if !self.kernel.version.has(feature) => {
                Err(Fault::NeedsKernel { what: what.to_string(), since: feature.since() })
            }
            _ => Ok(()),
        }
    }

    fn action(&mut self, action: Action) -> Result<(), Fault> {
        self.require(action.since(), action.name())?;
        match self.action.replace(action) {
            None => Ok(()),
            Some(_) => Err(Fault::ActionRepeated),
        }
    }

    fn condition(&mut self, key: Key, comparison: Comparison, value: &[u8]) -> Result<(), Fault> {
        match key {
            Key::Func => self.func(value),
            Key::Mask => self.mask(value),
            Key::Fsmagic => self.fsmagic(value),
            Key::Fsname => self.name(value, |rule| &mut rule.fsname),
            Key::FsSubtype => {
                refuse_second(&self.rule.fs_subtype, key)?;
                self.name(value, |rule| &mut rule.fs_subtype)
            }
            Key::Fsuuid => self.fsuuid(value),
            Key::Uid | Key::Euid | Key::Gid | Key::Egid | Key::Fowner | Key::Fgroup => {
                self.id(key, comparison, value)
            }
            Key::ObjUser
            | Key::ObjRole
            | Key::ObjType
            | Key::SubjUser
            | Key::SubjRole
            | Key::SubjType => self.label(key, value),
            Key::DigestType => self.digest_type(value),
            Key::AppraiseType => self.appraise_type(value),
            Key::AppraiseFlag => self.appraise_flag(value),
            Key::AppraiseAlgos => self.appraise_algos(value),
            Key::Pcr => self.pcr(value),
            Key::Template => self.template(value),
            Key::Keyrings => {
                self.require_asymmetric_keys("keyrings=")?;
                refuse_second(&self.rule.keyrings, key)?;
                self.rule.keyrings = Some(list(key, value)?);
                Ok(())
            }
            Key::Label => {
                refuse_second(&self.rule.label, key)?;
                self.rule.label = Some(list(key, value)?);
                Ok(())
            }
            // `token` returns it as a flag
            Key::PermitDirectio => Ok(()),
        }
    }

    fn func(&mut self, value: &[u8]) -> Result<(), Fault> {
        refuse_second(&self.rule.func, Key::Func)?;
        let alias = Func::ALIASES.iter().find(|(name, _)| name.as_bytes() == value);
        let func = match alias.map(|(_, func)| *func).or_else(|| Func::from_name(value)) {
            // POST_SETATTR is a hook that no rule can name
            None | Some(Func::PostSetattr) => {
                let funcs = Func::ALL.iter().filter(|func| **func != Func::PostSetattr);
                return Err(unknown_value(Key::Func, value, funcs.map(|func| func.name())));
            }
            Some(func) => func,
        };
        self.require(func.since(), func.name())?;
        if func == Func::KeyCheck {
            self.require_asymmetric_keys("func=KEY_CHECK")?;
        }
        self.rule.func = Some(func);
        Ok(())
    }

    fn require_asymmetric_keys(&self, what: &'static str) -> Result<(), Fault> {
        match self.kernel.asymmetric_keys {
            Built::In => Ok(()),
            Built::Out => {
                Err(Fault::NotConfigured { what, option: "CONFIG_IMA_MEASURE_ASYMMETRIC_KEYS" })
            }
        }
    }

    fn mask(&mut self, value: &[u8]) -> Result<(), Fault> {
        refuse_second(&self.rule.mask, Key::Mask)?;
        let (scope, name) = match value {
            [b'^', name @ ..] => (MaskScope::Among, name),
            name => (MaskScope::Exactly, name),
        };
        let Some(access) = Access::from_name(name) else {
            let scope = if scope == MaskScope::Among { "^" } else { "" };
            let meant = nearest(name, Access::ALL.iter().map(|access| access.name()));
            let meant = meant.map(|access| scope.to_string() + access);
            return Err(Fault::UnknownValue { key: Key::Mask, value: quoted(value), meant });
        };
        self.rule.mask = Some(Mask { scope, access });
        Ok(())
    }

    fn fsmagic(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.rule.fsmagic.is_some_and(|magic| magic != 0) {
            return Err(Fault::Repeated(Key::Fsmagic));
        }
        self.rule.fsmagic = Some(self.unsigned_long(Key::Fsmagic, value, 16)?);
        Ok(())
    }

    fn unsigned_long(&self, key: Key, value: &[u8], base: u32) -> Result<u64, Fault> {
        let maximum = match self.kernel.long_size {
            LongSize::Bits32 => u64::from(u32::MAX),
            LongSize::Bits64 => u64::MAX,
        };
        match number::unsigned(value, base) {
            Ok(number) if number <= maximum => Ok(number),
            Ok(_) | Err(NumberFault::TooLarge) => Err(Fault::OutOfRange { key, maximum }),
            Err(NumberFault::Malformed) => Err(Fault::NotANumber { key, value: quoted(value) }),
        }
    }

    fn name(
        &mut self,
        value: &[u8],
        field: fn(&mut Rule) -> &mut Option<Name>,
    ) -> Result<(), Fault> {
        // a word is neither empty nor contains a separator, so the name is always valid
        *field(&mut self.rule) = Name::new(value);
        Ok(())
    }

    fn fsuuid(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.rule.fsuuid.is_some_and(|uuid| uuid != Uuid::NULL) {
            return Err(Fault::Repeated(Key::Fsuuid));
        }
        self.rule.fsuuid = Some(Uuid::parse(value).ok_or(Fault::BadUuid)?);
        Ok(())
    }

    fn id(&mut self, key: Key, comparison: Comparison, value: &[u8]) -> Result<(), Fault> {
        let taken = match key {
            Key::Uid | Key::Euid => self.rule.user.is_some(),
            Key::Gid | Key::Egid => self.rule.group.is_some(),
            Key::Fowner => self.rule.fowner.is_some(),
            _ => self.rule.fgroup.is_some(),
        };
        if taken {
            return Err(Fault::Repeated(key));
        }
        let test = IdTest { comparison, id: self.id_value(key, value)? };
        let subject = |identity| Some(SubjectTest { identity, test });
        match key {
            Key::Uid => self.rule.user = subject(Identity::Real),
            Key::Euid => self.rule.user = subject(Identity::Effective),
            Key::Gid => self.rule.group = subject(Identity::Real),
            Key::Egid => self.rule.group = subject(Identity::Effective),
            Key::Fowner => self.rule.fowner = Some(test),
            _ => self.rule.fgroup = Some(test),
        }
        Ok(())
    }

    fn id_value(&self, key: Key, value: &[u8]) -> Result<u32, Fault> {
        // the largest number means "no id" (`uid_valid`)
        const MAXIMUM: u32 = u32::MAX - 1;
        if let (Loading::ReadBack, Ok(id @ i32::MIN..=-2)) = (self.loading, number::signed(value)) {
            return Ok(u32::from_ne_bytes(id.to_ne_bytes()));
        }
        let id = self.unsigned_long(key, value, 10).ok();
        match id.map(u32::try_from) {
            Some(Ok(id @ 0..=MAXIMUM)) => Ok(id),
            None if number::unsigned(value, 10) == Err(NumberFault::Malformed) => {
                Err(Fault::NotANumber { key, value: quoted(value) })
            }
            _ => Err(Fault::OutOfRange { key, maximum: u64::from(MAXIMUM) }),
        }
    }

    fn label(&mut self, key: Key, value: &[u8]) -> Result<(), Fault> {
        match (self.kernel.lsm_rules, self.kernel.in_force) {
            (LsmRules::Undefined, InForce::Builtin) => return Err(Fault::UndefinedLabel(key)),
            // no label was looked up, so a second condition is accepted
            (LsmRules::Undefined, InForce::Custom) => {}
            (LsmRules::Defined | LsmRules::Unknown, _) => {
                refuse_second(&self.rule.labels.value(key), key)?;
            }
        }
        // a word is neither empty nor contains a separator, so the name is always valid
        if let Some(name) = Name::new(value) {
            self.rule.labels.set(key, name);
        }
        Ok(())
    }

    fn digest_type(&mut self, value: &[u8]) -> Result<(), Fault> {
        let in_order =
            self.loading != Loading::ReadBack && !self.kernel.version.has(Feature::FileSigv3);
        if self.rule.appraise_type.is_some() && in_order {
            return Err(Fault::DigestTypeAfterAppraiseType);
        }
        match DigestType::from_name(value) {
            None => Err(unknown_value(
                Key::DigestType,
                value,
                DigestType::ALL.iter().map(|digest_type| digest_type.name()),
            )),
            some => {
                self.rule.digest_type = some;
                Ok(())
            }
        }
    }

    fn appraise_type(&mut self, value: &[u8]) -> Result<(), Fault> {
        let verity = self.rule.digest_type == Some(DigestType::Verity);
        let said = AppraiseType::from_name(value);
        match said {
            None => Err(unknown_value(
                Key::AppraiseType,
                value,
                AppraiseType::ALL.iter().map(|appraise_type| appraise_type.name()),
            )),
            Some(AppraiseType::Sigv3) => {
                self.require(Some(Feature::Verity), "appraise_type=sigv3")?;
                let plain = self.kernel.version.has(Feature::FileSigv3);
                if !verity && !plain && self.loading != Loading::ReadBack {
                    return Err(Fault::Sigv3NeedsVerity);
                }
                self.rule.appraise_type = match self.rule.appraise_type {
                    Some(AppraiseType::ImasigOrModsig) => Some(AppraiseType::Sigv3OrModsig),
                    other => other.max(said),
                };
                Ok(())
            }
            Some(AppraiseType::ImasigOrModsig) if self.kernel.modsig == Built::Out => {
                Err(Fault::NotConfigured {
                    what: "appraise_type=imasig|modsig",
                    option: "CONFIG_IMA_APPRAISE_MODSIG",
                })
            }
            Some(_) if verity => Err(Fault::VerityNeedsSigv3),
            Some(AppraiseType::ImasigOrModsig)
                if self.rule.appraise_type >= Some(AppraiseType::Sigv3) =>
            {
                Err(Fault::Sigv3ExcludesModsig)
            }
            // flags accumulate: a form that was allowed stays allowed
            Some(_) => {
                self.rule.appraise_type = self.rule.appraise_type.max(said);
                Ok(())
            }
        }
    }

    fn appraise_flag(&mut self, value: &[u8]) -> Result<(), Fault> {
        const WORD: &[u8] = b"blacklist";
        if !self.kernel.version.has(Feature::BlacklistByDefault) {
            if self.kernel.modsig == Built::Out {
                return Err(Fault::NotConfigured {
                    what: "appraise_flag=",
                    option: "CONFIG_IMA_APPRAISE_MODSIG",
                });
            }
            // the kernel uses strstr(): the word may be anywhere in the value
            if !value.windows(WORD.len()).any(|window| window == WORD) {
                return Err(unknown_value(Key::AppraiseFlag, value, ["check_blacklist"]));
            }
        }
        self.name(value, |rule| &mut rule.appraise_flag)
    }

    fn appraise_algos(&mut self, value: &[u8]) -> Result<(), Fault> {
        refuse_second(&self.rule.appraise_algos, Key::AppraiseAlgos)?;
        let mut algorithms = AlgorithmSet::EMPTY;
        for name in value.split(|byte| *byte == b',') {
            if name.is_empty() {
                return Err(Fault::EmptyListItem(Key::AppraiseAlgos));
            }
            let known =
                HashAlgorithm::ALL.iter().copied().find(|known| known.name().as_bytes() == name);
            let Some(algorithm) = known else {
                let names = HashAlgorithm::ALL.iter().map(|known| known.name());
                return Err(unknown_value(Key::AppraiseAlgos, name, names));
            };
            self.require(Feature::of_algorithm(algorithm), algorithm.name())?;
            match self.kernel.algorithms {
                Available::Exactly(set) if !set.contains(algorithm) => {
                    return Err(Fault::UnavailableAlgorithm(algorithm.name().to_string()));
                }
                _ => algorithms = algorithms.with(algorithm),
            }
        }
        self.rule.appraise_algos = Some(algorithms);
        Ok(())
    }

    fn pcr(&mut self, value: &[u8]) -> Result<(), Fault> {
        let maximum: u8 = match self.kernel.long_size {
            LongSize::Bits32 => 31,
            LongSize::Bits64 => 63,
        };
        let out_of_range = Fault::OutOfRange { key: Key::Pcr, maximum: u64::from(maximum) };
        match number::signed(value) {
            Err(NumberFault::Malformed) => {
                Err(Fault::NotANumber { key: Key::Pcr, value: quoted(value) })
            }
            Err(NumberFault::TooLarge) => Err(out_of_range),
            Ok(number) => match u8::try_from(number) {
                Ok(number) if number <= maximum => {
                    self.rule.pcr = Some(number);
                    Ok(())
                }
                _ => Err(out_of_range),
            },
        }
    }

    fn template(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.action != Some(Action::Measure) {
            return Err(Fault::TemplateNeedsMeasure);
        }
        if self.kernel.template_fields(value).is_none() {
            return Err(self.unknown_template(value));
        }
        refuse_second(&self.rule.template, Key::Template)?;
        self.name(value, |rule| &mut rule.template)
    }

    fn unknown_template(&self, value: &[u8]) -> Fault {
        let later = TEMPLATES
            .iter()
            .find(|(name, fields, _)| name.as_bytes() == value || fields.as_bytes() == value);
        if let Some((name, _, Some(feature))) = later {
            return Fault::NeedsKernel { what: name.to_string(), since: feature.since() };
        }
        unknown_value(Key::Template, value, self.kernel.template_names())
    }
}

fn refuse_second<T>(field: &Option<T>, key: Key) -> Result<(), Fault> {
    match field {
        None => Ok(()),
        Some(_) => Err(Fault::Repeated(key)),
    }
}

fn list(key: Key, value: &[u8]) -> Result<NameList, Fault> {
    NameList::parse(value).ok_or(Fault::EmptyListItem(key))
}

fn unknown_value<'a>(key: Key, value: &[u8], known: impl IntoIterator<Item = &'a str>) -> Fault {
    let meant = nearest(value, known).map(|name| name.to_string());
    Fault::UnknownValue { key, value: quoted(value), meant }
}
