//! One rule as a sentence.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::policy::ast::{
    Access, Action, AppraiseType, Comparison, DigestType, Func, IdTest, Identity, Key, MaskScope,
    Name, NameList, Rule, SubjectTest,
};
use crate::policy::filesystem;
use crate::policy::kernel::{Feature, Kernel};

/// The effect of a rule, in one or two sentences.
pub(super) fn meaning(rule: &Rule, kernel: &Kernel) -> String {
    if let (Some(Func::SetxattrCheck), Some(algorithms)) = (rule.func, rule.appraise_algos) {
        let algorithms = algorithms.to_string().replace(',', ", ");
        return format!("Hash algorithms in security.ima, when it is written: {algorithms} only.");
    }
    let what = subject(rule);
    let mut sentences = match rule.action {
        Action::Measure => format!("{what} is measured{}", list(rule, kernel)),
        Action::Appraise => format!("{what} needs {}", requirement(rule, kernel)),
        Action::Audit => format!("{what} is audited: its digest goes to the audit log"),
        Action::Hash => format!("{what} gets its digest in security.ima, and is not denied"),
        Action::DontMeasure => format!("{what} is not measured, whatever later rules say"),
        Action::DontAppraise => format!("{what} is not appraised, whatever later rules say"),
        Action::DontAudit => format!("{what} is not audited, whatever later rules say"),
        Action::DontHash => format!("{what} gets no digest, whatever later rules say"),
    };
    sentences.push('.');
    if rule.digest_type == Some(DigestType::Verity) && rule.action != Action::Appraise {
        sentences += " Its fs-verity digest counts, not that of the content.";
    }
    if rule.permit_directio {
        sentences += " Opened with O_DIRECT it passes unchecked.";
    }
    sentences
}

fn list(rule: &Rule, kernel: &Kernel) -> String {
    let pcr = rule.pcr.unwrap_or(kernel.default_pcr);
    let template = rule.template.as_ref().map(|name| format!(", with the template {name}"));
    format!(" into PCR {pcr}{}", template.unwrap_or_default())
}

fn requirement(rule: &Rule, kernel: &Kernel) -> String {
    let mut text = String::from(match rule.appraise_type {
        None => "its digest or a good signature in security.ima",
        Some(AppraiseType::Imasig) => "a good signature in security.ima",
        Some(AppraiseType::ImasigOrModsig) => {
            "a good signature, in security.ima or appended to the file"
        }
        Some(AppraiseType::Sigv3) if rule.digest_type.is_some() => {
            "a good signature of its fs-verity digest in security.ima"
        }
        Some(AppraiseType::Sigv3) => "a good signature of version 3 in security.ima",
        Some(AppraiseType::Sigv3OrModsig) => {
            "a good signature, of version 3 in security.ima or appended to the file"
        }
    });
    if let Some(algorithms) = rule.appraise_algos {
        text += &format!(", made with {}", algorithms.to_string().replace(',', " or "));
    }
    let blacklist = match kernel.version.has(Feature::BlacklistByDefault) {
        true => rule.appraise_type.is_some(),
        false => rule.appraise_flag.is_some(),
    };
    if blacklist {
        text += ", and a digest that is not blacklisted";
    }
    text
}

/// The process and the file that a rule is about.
fn subject(rule: &Rule) -> String {
    let mut text = noun(rule);
    let mut add = |part: Option<String>| {
        if let Some(part) = part {
            text.push(' ');
            text += &part;
        }
    };
    add(rule.mask.map(|mask| {
        let verb = match mask.access {
            Access::Exec => "executing",
            Access::Write => "writing",
            Access::Read => "reading",
            Access::Append => "appending",
        };
        match mask.scope {
            MaskScope::Exactly => format!("for {verb} and nothing else"),
            MaskScope::Among => format!("for {verb} (or {verb} and more)"),
        }
    }));
    add(owner("of user", rule.fowner));
    add(owner("of group", rule.fgroup));
    add(file_system(rule));
    add(process("user", rule.user));
    add(process("group", rule.group));
    for key in Key::labels() {
        add(rule.labels.value(key).map(|value| format!("with {}={value}", key.name())));
    }
    text
}

fn noun(rule: &Rule) -> String {
    String::from(match rule.func {
        None => match rule.mask {
            None => "Any file",
            Some(_) => "Any file used",
        },
        Some(Func::FileCheck) => "A file opened",
        Some(Func::MmapCheck) => "A file mapped to be executed (a shared library, a program)",
        Some(Func::MmapCheckReqprot) => "A file asked to be mapped to be executed",
        Some(Func::BprmCheck) => "A program or script executed",
        Some(Func::CredsCheck) => "A program or script executed (its new credentials count)",
        Some(Func::PostSetattr) => "A file whose attributes are changed",
        Some(Func::ModuleCheck) => "A kernel module loaded",
        Some(Func::FirmwareCheck) => "Firmware loaded",
        Some(Func::KexecKernelCheck) => "A kernel loaded by kexec",
        Some(Func::KexecInitramfsCheck) => "An initramfs loaded by kexec",
        Some(Func::PolicyCheck) => "An IMA policy loaded",
        Some(Func::KexecCmdline) => "The command line of a kernel loaded by kexec",
        Some(Func::KeyCheck) => {
            return match &rule.keyrings {
                None => String::from("A key added to any keyring"),
                Some(keyrings) => format!("A key added to {}", names(keyrings)),
            };
        }
        Some(Func::CriticalData) => {
            return match &rule.label {
                None => String::from("Any data that a subsystem reports as critical"),
                Some(label) => format!("Data that a subsystem reports as {}", names(label)),
            };
        }
        Some(Func::SetxattrCheck) => "An attribute written",
    })
}

fn names(list: &NameList) -> String {
    let names: Vec<_> = list.names().iter().map(Name::to_text).collect();
    names.join(" or ")
}

fn file_system(rule: &Rule) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(magic) = rule.fsmagic {
        let known: Vec<_> = filesystem::with_magic(magic).map(|known| known.name).collect();
        parts.push(match known.is_empty() {
            true => format!("a file system of magic number 0x{magic:x}"),
            false => known.join(" or "),
        });
    }
    parts.extend(rule.fsname.as_ref().map(Name::to_text));
    parts.extend(rule.fs_subtype.as_ref().map(|subtype| format!("the subtype {subtype}")));
    parts.extend(rule.fsuuid.map(|uuid| format!("the file system {uuid}")));
    (!parts.is_empty()).then(|| format!("on {}", parts.join(" and ")))
}

fn owner(what: &str, test: Option<IdTest>) -> Option<String> {
    test.map(|test| format!("{what} {}", id(test)))
}

fn process(what: &str, subject: Option<SubjectTest>) -> Option<String> {
    let subject = subject?;
    let which = match subject.identity {
        Identity::Real => "real",
        Identity::Effective => "effective",
    };
    Some(format!("by a process whose {which} {what} is {}", id(subject.test)))
}

fn id(test: IdTest) -> String {
    match (test.comparison, test.id) {
        (Comparison::Equal, 0) => String::from("root"),
        (Comparison::Equal, id) => id.to_string(),
        (Comparison::Less, id) => format!("below {id}"),
        (Comparison::Greater, 0) => String::from("other than root"),
        (Comparison::Greater, id) => format!("above {id}"),
    }
}
