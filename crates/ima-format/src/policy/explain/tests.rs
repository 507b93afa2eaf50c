use std::string::String;
use std::vec::Vec;

use super::*;
use crate::policy::builtin::Preset;

fn explained(text: &str) -> Explanation {
    let kernel = Kernel::default();
    explain(&Policy::parse(text.as_bytes(), &kernel).unwrap(), &kernel)
}

fn meaning(rule: &str) -> String {
    explained(&std::format!("{rule}\n")).rules.remove(0).meaning
}

fn statements(text: &str) -> Vec<String> {
    explained(text).whole.into_iter().flat_map(|topic| topic.statements).collect()
}

#[track_caller]
fn says(text: &str, statement: &str) {
    let statements = statements(text);
    assert!(statements.iter().any(|it| it.contains(statement)), "{statement}: {statements:#?}");
}

#[test]
fn rules_become_sentences() {
    for (rule, expected) in [
        (
            "appraise func=BPRM_CHECK euid=0 appraise_type=imasig",
            "A program or script executed by a process whose effective user is root needs a good \
             signature in security.ima, and a digest that is not blacklisted.",
        ),
        (
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig appraise_algos=sha256,sha512",
            "A kernel module loaded needs a good signature, in security.ima or appended to the \
             file, made with sha256 or sha512, and a digest that is not blacklisted.",
        ),
        (
            "appraise fowner=0 permit_directio",
            "Any file of user root needs its digest or a good signature in security.ima. Opened \
             with O_DIRECT it passes unchecked.",
        ),
        (
            "measure func=FILE_CHECK mask=^MAY_READ uid>999 pcr=11 template=ima-ng",
            "A file opened for reading (or reading and more) by a process whose real user is \
             above 999 is measured into PCR 11, with the template ima-ng.",
        ),
        (
            "dont_measure fsmagic=0x9fa0",
            "Any file on proc is not measured, whatever later rules say.",
        ),
        (
            "dont_appraise fsmagic=0x1 obj_type=log_t",
            "Any file on a file system of magic number 0x1 with obj_type=log_t is not appraised, \
             whatever later rules say.",
        ),
        (
            "measure func=KEY_CHECK keyrings=.ima|.evm",
            "A key added to .ima or .evm is measured into PCR 10.",
        ),
        (
            "appraise func=SETXATTR_CHECK appraise_algos=sha256,sha512",
            "Hash algorithms in security.ima, when it is written: sha256, sha512 only.",
        ),
        (
            "audit func=BPRM_CHECK digest_type=verity",
            "A program or script executed is audited: its digest goes to the audit log. Its \
             fs-verity digest counts, not that of the content.",
        ),
    ] {
        assert_eq!(meaning(rule), expected, "{rule}");
    }
}

#[test]
fn the_default_is_summed_up() {
    let text = Preset::Appraise.text();
    says(text, "Root: programs, scripts and shared libraries: signed files.");
    says(text, "Other users: programs, scripts and shared libraries: anything.");
    says(text, "Set-user-ID programs of root's, by other users: signed files.");
    says(text, "Modules: signed files.");
    says(text, "Firmware: signed files.");
    says(text, "Kernels by kexec: signed files.");
    says(text, "Rules written as text are rejected");
    says(text, "sh script.sh");
}

#[test]
fn a_uid_on_what_the_kernel_reads_leaves_a_gap() {
    let text = "appraise func=MODULE_CHECK euid=0 appraise_type=imasig\n";
    says(text, "Modules: signed files; of a process with the capability but not root's id");
}

#[test]
fn what_is_recorded_and_left_open_is_found_by_asking() {
    says(Preset::Measure.text(), "Anybody may run anything");
    says(
        Preset::Measure.text(),
        "Files that root executes, maps to be executed, opens for reading are",
    );
    says(
        Preset::Measure.text(),
        "Files that other users execute, map to be executed are measured.",
    );
    let text = "dont_appraise fsname=tmpfs\nappraise fowner=0\naudit func=BPRM_CHECK uid=0\n";
    says(text, "From tmpfs, root runs any program.");
    says(text, "Files of other users are run by root as they are.");
    says(text, "only EVM binds digests");
    says(text, "Files that root executes are audited.");
    says("appraise func=BPRM_CHECK obj_type=x\n", "depends on the security module");
}

#[test]
fn what_only_records_says_what_it_leaves_open() {
    let text = "dont_measure fsmagic=0x9fa0\nmeasure func=BPRM_CHECK\n\
                measure func=KEY_CHECK keyrings=.ima|.evm\nhash func=FILE_CHECK fowner=0\n";
    says(text, "nothing is denied, and changed files run");
    says(text, "without any measurement: shared libraries, modules, firmware, policies");
    says(text, "are given its digest in security.ima");
    says(text, "files on proc");
    says(text, "Keys that are added to .ima, .evm are measured");
    says("measure func=KEY_CHECK\n", "Keys that are added to keyrings are measured");
}

#[test]
fn exclusions_are_said_of_whatever_they_open() {
    let text =
        "dont_appraise fsmagic=0x01021994\nappraise func=POLICY_CHECK appraise_type=imasig\n";
    says(text, "Policies: signed files; from devtmpfs, rootfs, tmpfs: anything.");
    let text = "dont_appraise func=MODULE_CHECK fsname=vfat\nappraise func=MODULE_CHECK\n";
    says(text, "Modules: files with a good digest or signature; from vfat: anything.");
}
