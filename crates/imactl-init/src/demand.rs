//! Whether the rules in force make the kernel accept signed policies only.
//!
//! Mirrors `ima_match_policy()` and `ima_match_rules()` of
//! `security/integrity/ima/ima_policy.c` for one event: root reads a policy
//! (`func=POLICY_CHECK`, `MAY_READ`). The first matching rule about appraisal decides. If it is
//! unknown whether a rule matches, the answer is the one that trusts less.

/// The requirement that the rules result in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Demand {
    /// No rule is about policies: the kernel accepts any.
    #[default]
    None,
    /// The first rule that matches, or may match, accepts policies without a signature: with a digest,
    /// or unchecked.
    Lax,
    /// A signature by a key in `.ima`.
    Signature,
}

impl Demand {
    /// The demand of rules, in order, on a policy on a file system with this magic number.
    pub fn of<'a>(rules: impl Iterator<Item = &'a [u8]>, magic: Option<u64>) -> Self {
        rules.map(|rule| Rule::parse(rule, magic).demand()).fold(Self::None, Self::then)
    }

    /// The demand of these rules, with further ones added after them.
    pub fn then(self, added: Self) -> Self {
        if self == Self::None {
            added
        } else {
            self
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Appraise,
    DontAppraise,
    Other,
}

/// Whether a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    Never,
    Maybe,
    Always,
}

struct Rule {
    action: Action,
    matches: Match,
    signature: bool,
}

impl Rule {
    fn parse(rule: &[u8], magic: Option<u64>) -> Self {
        let words = rule.split(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        let mut this = Self { action: Action::Other, matches: Match::Always, signature: false };
        for word in words.filter(|word| !word.is_empty()) {
            let (name, value) = match word.iter().position(|&byte| byte == b'=') {
                Some(at) => (word.get(..at).unwrap_or_default(), word.get(at + 1..)),
                None => (word, None),
            };
            let matches = match (name, value.unwrap_or_default()) {
                (b"appraise", _) => {
                    this.action = Action::Appraise;
                    continue;
                }
                (b"dont_appraise", _) => {
                    this.action = Action::DontAppraise;
                    continue;
                }
                (b"appraise_type", kind) => {
                    this.signature = matches!(kind, b"imasig" | b"imasig|modsig" | b"sigv3");
                    continue;
                }
                (
                    b"measure" | b"dont_measure" | b"audit" | b"hash" | b"dont_hash"
                    | b"digest_type" | b"appraise_flag" | b"appraise_algos" | b"permit_directio"
                    | b"template",
                    _,
                ) => continue,
                (b"func", b"POLICY_CHECK") => Match::Always,
                (b"func", _) => Match::Never,
                (b"mask", b"MAY_READ" | b"^MAY_READ") => Match::Always,
                (b"mask", _) => Match::Never,
                // root loads the policies at boot
                (b"uid" | b"euid", b"0") => Match::Always,
                (b"fsmagic", value) => match (hexadecimal(value), magic) {
                    (Some(wanted), Some(magic)) if wanted == magic => Match::Always,
                    (Some(_), Some(_)) => Match::Never,
                    _ => Match::Maybe,
                },
                _ => Match::Maybe,
            };
            this.matches = this.matches.min(matches);
        }
        this
    }

    fn demand(&self) -> Demand {
        match (self.action, self.matches, self.signature) {
            (Action::Other, ..) | (_, Match::Never, _) => Demand::None,
            (Action::Appraise, Match::Always, true) => Demand::Signature,
            // may not match: then the rules after it decide
            (Action::Appraise, Match::Maybe, true) => Demand::None,
            (Action::Appraise, _, false) | (Action::DontAppraise, ..) => Demand::Lax,
        }
    }
}

/// A number as `kstrtoul(..., 16)` reads it.
fn hexadecimal(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"0x").or_else(|| value.strip_prefix(b"0X")).unwrap_or(value);
    u64::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXT4: u64 = 0xef53;

    fn demand(rules: &[&str]) -> Demand {
        Demand::of(rules.iter().map(|rule| rule.as_bytes()), Some(EXT4))
    }

    const IMASIG: &str = "appraise func=POLICY_CHECK appraise_type=imasig";

    #[test]
    fn a_rule_that_holds_every_policy_to_a_signature_demands_it() {
        for rule in [
            IMASIG,
            "appraise\tfunc=POLICY_CHECK  appraise_type=imasig appraise_flag=check_blacklist",
            "appraise func=POLICY_CHECK appraise_type=imasig|modsig",
            "appraise func=POLICY_CHECK digest_type=verity appraise_type=sigv3",
            "appraise func=POLICY_CHECK euid=0 uid=0 mask=MAY_READ appraise_type=imasig",
            "appraise fsmagic=0xEF53 appraise_type=imasig appraise_algos=sha256",
            "appraise appraise_type=imasig",
        ] {
            assert_eq!(demand(&[rule]), Demand::Signature, "{rule}");
        }
    }

    #[test]
    fn a_digest_is_no_signature() {
        for rule in ["appraise func=POLICY_CHECK", "appraise fowner=0", "dont_appraise"] {
            assert_eq!(demand(&[rule]), Demand::Lax, "{rule}");
            assert_eq!(demand(&[rule, IMASIG]), Demand::Lax, "{rule}: the first decides");
            assert_eq!(demand(&[IMASIG, rule]), Demand::Signature, "{rule}: the first decides");
        }
    }

    #[test]
    fn a_rule_that_holds_some_policies_demands_nothing_of_the_others() {
        for condition in ["fowner=0", "uid>0", "fsuuid=01234567-89ab-cdef-0123-456789abcdef"] {
            let narrow = std::format!("{IMASIG} {condition}");
            assert_eq!(demand(&[&narrow]), Demand::None, "{condition}");
            assert_eq!(demand(&[&narrow, IMASIG]), Demand::Signature, "{condition}");
        }
    }

    #[test]
    fn rules_about_something_else_do_not_count() {
        for rule in [
            "appraise func=MODULE_CHECK appraise_type=imasig",
            "dont_appraise fsmagic=0x9fa0",
            "dont_appraise func=FILE_CHECK",
            "dont_appraise mask=MAY_EXEC",
            "measure func=POLICY_CHECK",
        ] {
            assert_eq!(demand(&[rule]), Demand::None, "{rule}");
            assert_eq!(demand(&[rule, IMASIG]), Demand::Signature, "{rule}");
        }
        let excepted = ["dont_appraise fsmagic=0xef53", IMASIG];
        assert_eq!(demand(&excepted), Demand::Lax);
        let unknown = Demand::of(excepted.iter().map(|rule| rule.as_bytes()), None);
        assert_eq!(unknown, Demand::Lax, "the file system is not known");
    }
}
