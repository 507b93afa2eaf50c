//! Combinations of keys that the kernel rejects: `ima_validate_rule`.

use crate::policy::ast::{Action, AppraiseType, DigestType, Func, Key, Rule};
use crate::policy::fault::Fault;
use crate::policy::kernel::{Feature, Kernel};

/// The fault and its key; `None` for the action.
type Invalid = (Fault, Option<Key>);

/// Makes the checks that need the whole rule.
pub(super) fn validate(rule: &Rule, kernel: &Kernel) -> Result<(), Invalid> {
    let refuse = |fault, key| Err((fault, Some(key)));
    for (key, action) in [
        (Key::Pcr, Action::Measure),
        (Key::AppraiseType, Action::Appraise),
        (Key::AppraiseAlgos, Action::Appraise),
    ] {
        if rule.has(key) && rule.action != action {
            return refuse(Fault::KeyNeedsAction { key, action }, key);
        }
    }
    let checks_blacklist =
        rule.appraise_flag.is_some() && !kernel.version.has(Feature::BlacklistByDefault);
    if checks_blacklist && rule.action != Action::Appraise {
        let key = Key::AppraiseFlag;
        return refuse(Fault::KeyNeedsAction { key, action: Action::Appraise }, key);
    }
    match rule.func {
        Some(func @ (Func::KexecCmdline | Func::KeyCheck | Func::CriticalData))
            if !matches!(rule.action, Action::Measure | Action::DontMeasure) =>
        {
            return Err((Fault::ActionNotForFunc { action: rule.action, func }, None));
        }
        Some(func @ Func::SetxattrCheck) if rule.action != Action::Appraise => {
            return Err((Fault::ActionNotForFunc { action: rule.action, func }, None));
        }
        Some(Func::SetxattrCheck) if rule.appraise_algos.is_none() => {
            return refuse(Fault::SetxattrNeedsAlgos, Key::Func);
        }
        _ => {}
    }
    let modsig = rule.appraise_type.is_some_and(AppraiseType::allows_modsig);
    let appended = rule.func.is_some_and(Func::takes_appended_signature);
    let goes_with = |key: Key| {
        let modsig_elsewhere = key == Key::AppraiseType && modsig && !appended;
        Func::takes(rule.func, key) && !modsig_elsewhere
    };
    let stranger = Key::ALL.iter().copied().find(|key| {
        let counts = *key != Key::AppraiseFlag || checks_blacklist;
        rule.has(*key) && counts && !goes_with(*key)
    });
    if let Some(key) = stranger {
        return refuse(Fault::KeyNotForFunc { key, func: rule.func }, key);
    }
    if checks_blacklist && rule.appraise_type != Some(AppraiseType::ImasigOrModsig) {
        return refuse(Fault::BlacklistNeedsModsig, Key::AppraiseFlag);
    }
    let unsigned_verity = rule.action == Action::Appraise
        && rule.digest_type == Some(DigestType::Verity)
        && rule.appraise_type.is_none();
    if unsigned_verity {
        return refuse(Fault::VerityNeedsSignature, Key::DigestType);
    }
    Ok(())
}
