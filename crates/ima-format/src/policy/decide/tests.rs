use std::vec::Vec;

use core::convert::Infallible;

use super::*;
use crate::hash::{Digest, HashAlgorithm};
use crate::policy::ast::{Access, AlgorithmSet, Func, Key, LsmConditions, Name, Policy, Uuid};
use crate::policy::kernel::{Kernel, KernelVersion};

fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes(), &Kernel::default()).unwrap()
}

fn on(func: Func, access: AccessSet) -> Event {
    Event::on_file(func, access, Credentials::ROOT, FileFacts::on_ext4())
}

fn bprm() -> Event {
    on(Func::BprmCheck, AccessSet::EXEC)
}

fn reading() -> Event {
    on(Func::FileCheck, AccessSet::READ)
}

#[track_caller]
fn decide(text: &str, event: &Event) -> Decision {
    Decider::new(&policy(text), &Kernel::default(), AppraiseMode::Enforce).decide(event)
}

#[test]
fn the_first_rule_of_each_kind_wins() {
    let text = "dont_measure fsmagic=0x9fa0\nmeasure func=BPRM_CHECK\nappraise\ndont_appraise\n\
                dont_measure\naudit\n";
    let decision = decide(text, &bprm());
    assert_eq!(decision.measure, Choice::Do(1));
    assert_eq!(decision.appraise, Choice::Do(2));
    assert_eq!(decision.audit, Choice::Do(5));
    assert_eq!(decision.hash, Choice::NoRule);
    let mut event = bprm();
    event.file = Some(FileFacts { fsmagic: 0x9fa0, ..FileFacts::on_ext4() });
    assert_eq!(decide(text, &event).measure, Choice::Dont(0));
}

#[test]
fn a_kind_without_a_doing_rule_is_not_looked_at() {
    let decision = decide("dont_measure permit_directio\naudit func=MMAP_CHECK\n", &bprm());
    assert_eq!(decision.measure, Choice::NoRule);
    assert!(!decision.demands.permit_directio);
}

#[test]
fn demands_of_all_kinds_add_up() {
    let text = "measure digest_type=verity\ndont_hash permit_directio\n\
                appraise appraise_type=imasig\nhash func=CREDS_CHECK\n";
    let demands = decide(text, &bprm()).demands;
    assert!(demands.verity && demands.permit_directio && demands.signature);
    assert!(demands.check_blacklist && !demands.modsig_allowed);
    let old = Kernel::new(KernelVersion::V6_1);
    let policy = policy(text);
    let demands = Decider::new(&policy, &old, AppraiseMode::Enforce).decide(&bprm()).demands;
    assert!(!demands.check_blacklist, "the flag has to ask for it before 6.6");
}

#[test]
fn appraise_takes_the_place_of_an_earlier_hash() {
    let decision = decide("hash\nappraise\n", &bprm());
    assert_eq!(decision.hash, Choice::Overruled { rule: 0, by: 1 });
    assert_eq!(decide("appraise\nhash\n", &bprm()).hash, Choice::Do(1));
}

#[test]
fn euid_is_any_id_of_who_may_change_it() {
    let text = "measure euid=0\n";
    let ids = Credentials { euid: 1000, suid: 1000, ..Credentials::user(0, 0) };
    let measured = |credentials| decide(text, &Event { credentials, ..bprm() }).measure.does();
    assert!(!measured(ids));
    assert!(measured(Credentials { cap_setuid: Capability::Held, ..ids }));
    assert!(measured(Credentials::ROOT));
    assert!(measured(Credentials { euid: 0, ..Credentials::user(1000, 0) }));
    let real =
        |credentials| decide("measure uid=0\n", &Event { credentials, ..bprm() }).measure.does();
    assert!(real(ids) && !real(Credentials { euid: 0, ..Credentials::user(1000, 0) }));
}

#[test]
fn masks_are_exact_or_among() {
    let both = AccessSet::READ.with(Access::Write);
    let decided = |text, access| decide(text, &on(Func::FileCheck, access)).measure.does();
    assert!(decided("measure mask=MAY_READ\n", AccessSet::READ));
    assert!(!decided("measure mask=MAY_READ\n", both));
    assert!(decided("measure mask=^MAY_READ\n", both));
    assert!(!decided("measure mask=^MAY_APPEND\n", both));
}

#[test]
fn a_change_of_attributes_ignores_func_and_mask() {
    let event = on(Func::PostSetattr, AccessSet::NONE);
    let must = |text: &str| {
        let policy = policy(text);
        Decider::new(&policy, &Kernel::default(), AppraiseMode::Enforce).must_appraise(&event)
    };
    assert!(must("appraise func=BPRM_CHECK mask=MAY_EXEC\n"));
    assert!(must("appraise func=SETXATTR_CHECK appraise_algos=sha256\n"));
    assert!(!must("dont_appraise func=FILE_CHECK\nappraise func=BPRM_CHECK\n"));
    assert!(!must("appraise fowner=7\n"));
}

#[test]
fn keys_match_by_keyring_and_uid_alone() {
    let event = Event {
        func: Func::KeyCheck,
        access: AccessSet::NONE,
        credentials: Credentials::user(1000, 1000),
        file: None,
        labels: Labels::None,
        data: Some(b".ima".to_vec()),
    };
    let measured = |text| decide(text, &event).measure.does();
    assert!(measured("measure func=KEY_CHECK\n"));
    assert!(measured("measure func=KEY_CHECK keyrings=.evm|.ima\n"));
    assert!(!measured("measure func=KEY_CHECK keyrings=.evm\n"));
    assert!(!measured("measure func=KEY_CHECK uid=0\n"));
    assert!(measured("measure func=KEY_CHECK gid=0\n"), "gid is not looked at");
    assert!(!measured("measure\n"), "a rule without func matches no key");
}

#[test]
fn file_systems_are_told_apart() {
    let file = FileFacts {
        owner: 5,
        group: 6,
        fsmagic: 0x6573_5546,
        fsname: b"fuse".to_vec(),
        fs_subtype: Some(b"sshfs".to_vec()),
        fsuuid: Uuid([7; 16]),
    };
    let event = Event { file: Some(file), ..bprm() };
    let newest = Kernel::new("6.19".parse().unwrap());
    let measured = |text: &str| {
        let policy = Policy::parse(text.as_bytes(), &newest).unwrap();
        Decider::new(&policy, &newest, AppraiseMode::Enforce).decide(&event).measure.does()
    };
    assert!(measured(
        "measure fsmagic=65735546 fsname=fuse fs_subtype=sshfs fowner=5 fgroup>5 \
         fsuuid=07070707-0707-0707-0707-070707070707\n"
    ));
    for text in ["fsmagic=1", "fsname=fuseblk", "fs_subtype=ntfs", "fowner>5", "fgroup<6"] {
        assert!(!measured(&std::format!("measure {text}\n")), "{text}");
    }
}

#[test]
fn unknown_labels_are_told() {
    let text = "dont_measure obj_type=log_t\nmeasure\n";
    let with = |labels| decide(text, &Event { labels, ..bprm() });
    assert_eq!(with(Labels::None).measure, Choice::Do(1));
    let unknown = with(Labels::Unknown);
    assert_eq!((unknown.measure, &unknown.undetermined[..]), (Choice::Do(1), &[0][..]));
    let mut labels = LsmConditions::default();
    labels.set(Key::ObjType, Name::new(b"log_t").unwrap());
    assert_eq!(with(Labels::Known(labels)).measure, Choice::Dont(0));
}

#[test]
fn a_mode_of_off_is_undone_by_a_rule_for_modules() {
    let kernel = Kernel::default();
    let active =
        |text: &str, mode| Decider::new(&policy(text), &kernel, mode).active_kinds().to_vec();
    assert_eq!(active("appraise\n", AppraiseMode::Off), []);
    assert_eq!(
        active("appraise\nappraise func=MODULE_CHECK\n", AppraiseMode::Off),
        [Kind::Appraise]
    );
    assert_eq!(
        active("appraise func=SETXATTR_CHECK appraise_algos=sha256\n", AppraiseMode::Enforce),
        []
    );
}

#[test]
fn only_the_first_setxattr_check_counts() {
    let policy = policy(
        "appraise func=SETXATTR_CHECK appraise_algos=sha256\n\
         appraise func=SETXATTR_CHECK appraise_algos=sha1\n",
    );
    let decider =
        Decider::new(&policy, &Kernel::default(), AppraiseMode::Enforce).setxattr_algorithms();
    assert_eq!(decider, Some(AlgorithmSet::EMPTY.with(HashAlgorithm::Sha256)));
}

#[test]
fn set_user_id_counts_for_mappings_not_for_creds_check() {
    let caller = Credentials::user(1000, 1000);
    let executed = caller.executing(Some(0), None);
    let euid_at = |version: &str, func| {
        let events = Operation::Execute.events(version.parse().unwrap());
        let event = events.iter().find(|event| event.func == func).unwrap();
        event.behalf.credentials(&caller, &executed).euid
    };
    assert_eq!(euid_at("6.12", Func::BprmCheck), 1000);
    assert_eq!(euid_at("6.12", Func::CredsCheck), 1000);
    assert_eq!(euid_at("6.19", Func::CredsCheck), 0);
    assert_eq!(euid_at("6.12", Func::MmapCheck), 0);
    assert_eq!(Operation::Execute.events(KernelVersion::V6_1).len(), 4, "no REQPROT hook");
}

/// Root executes a set-user-ID program of another user, and can still change its ids.
#[test]
fn creds_check_sees_new_ids_and_old_capabilities() {
    let executed = Credentials::ROOT.executing(Some(1), None);
    let events = Operation::Execute.events("6.19".parse().unwrap());
    let asked = events.iter().find(|event| event.func == Func::CredsCheck).unwrap();
    let credentials = asked.behalf.credentials(&Credentials::ROOT, &executed);
    assert_eq!((credentials.uid, credentials.euid), (0, 1));
    let event = Event { credentials, ..on(Func::CredsCheck, AccessSet::EXEC) };
    assert!(decide("measure func=CREDS_CHECK euid=0\n", &event).measure.does());
}

/// A file of five bytes with a SHA-256 of all ones and an fs-verity digest of all twos.
#[derive(Clone)]
struct Facts {
    signature: SignatureCheck,
    modsig: Option<SignatureCheck>,
    blacklisted: bool,
}

const PLAIN: Facts = Facts { signature: SignatureCheck::Good, modsig: None, blacklisted: false };

impl Evidence for Facts {
    type Error = Infallible;

    fn digest(&mut self, algorithm: HashAlgorithm) -> Result<Option<Digest>, Infallible> {
        Ok(Digest::new(algorithm, &std::vec![1; algorithm.digest_size()])
            .filter(|digest| digest.algorithm() != HashAlgorithm::Md4))
    }

    fn verity_digest(&mut self) -> Result<Option<Digest>, Infallible> {
        Ok(Digest::new(HashAlgorithm::Sha256, &[2; 32]))
    }

    fn verify(&mut self, _: &[u8], _: Signed<'_>) -> Result<SignatureCheck, Infallible> {
        Ok(self.signature)
    }

    fn modsig(&mut self) -> Result<Option<Modsig>, Infallible> {
        let digest = Digest::new(HashAlgorithm::Sha256, &[3; 32]).unwrap();
        Ok(self.modsig.map(|check| Modsig { check, digest: Some(digest) }))
    }

    fn is_blacklisted(&mut self, _: &[u8]) -> Result<bool, Infallible> {
        Ok(self.blacklisted)
    }
}

fn with_attribute(value: &[u8]) -> OpenFile<'_> {
    OpenFile::at_rest(5, AttributeRead::Value(value))
}

#[track_caller]
fn verdict(text: &str, event: &Event, file: &OpenFile<'_>, facts: &Facts) -> (Verdict, Vec<Cause>) {
    let policy = policy(text);
    let kernel = Kernel::default();
    let decider = Decider::new(&policy, &kernel, AppraiseMode::Enforce);
    let outcome = decider.process(event, file, &mut Inode::default(), &mut facts.clone()).unwrap();
    (outcome.verdict, outcome.causes)
}

const SIGNED: &[u8] = &[3, 2, 4, 0, 0, 0, 0, 0, 1, 9];
const VERITY_SIGNED: &[u8] = &[6, 3, 4, 0, 0, 0, 0, 0, 1, 9];
const HASHED: [u8; 34] = {
    let mut value = [1; 34];
    value[0] = 4;
    value[1] = 4;
    value
};

#[test]
fn a_signature_is_wanted_and_checked() {
    let check = |file: OpenFile<'_>, facts: &Facts| {
        verdict("appraise func=BPRM_CHECK appraise_type=imasig\n", &bprm(), &file, facts)
    };
    let refused = |cause| (Verdict::Denied, [cause].to_vec());
    assert_eq!(check(with_attribute(SIGNED), &PLAIN), (Verdict::Allowed, [].to_vec()));
    for signature in [SignatureCheck::Bad, SignatureCheck::UnknownKey] {
        let facts = Facts { signature, ..PLAIN };
        assert_eq!(check(with_attribute(SIGNED), &facts), refused(Cause::InvalidSignature));
    }
    for (value, cause) in [
        (&HASHED[..], Cause::ImaSignatureRequired),
        (VERITY_SIGNED, Cause::ImaSignatureRequired),
        (&[3, 3, 4, 0, 0, 0, 0, 0, 1, 9], Cause::InvalidSignatureVersion),
        (&[3, 0, 4], Cause::Unknown),
        (&[5, 2, 4], Cause::UnknownImaData),
        (&[9], Cause::UnknownImaData),
        (&[], Cause::ImaSignatureRequired),
    ] {
        assert_eq!(check(with_attribute(value), &PLAIN), refused(cause), "{value:?}");
    }
    for (attribute, cause) in [
        (AttributeRead::Missing, Cause::ImaSignatureRequired),
        (AttributeRead::Unsupported, Cause::ImaSignatureRequired),
        (AttributeRead::NoAttributes, Cause::NoAttributes),
        (AttributeRead::Unreadable, Cause::Unknown),
    ] {
        assert_eq!(check(OpenFile::at_rest(5, attribute), &PLAIN), refused(cause));
    }
}

#[test]
fn a_digest_is_compared_as_far_as_it_goes() {
    let check = |value: &[u8]| {
        verdict("appraise func=BPRM_CHECK\n", &bprm(), &with_attribute(value), &PLAIN)
    };
    assert_eq!(check(&HASHED).0, Verdict::Allowed);
    assert_eq!(check(&[&HASHED[..], b"tail"].concat()).0, Verdict::Allowed, "longer is fine");
    assert_eq!(check(&HASHED[..33]).1, [Cause::InvalidHash]);
    assert_eq!(check(&[1; 21]).0, Verdict::Allowed, "SHA-1");
    let mut wrong = HASHED;
    wrong[33] = 0;
    assert_eq!(check(&wrong).1, [Cause::InvalidHash]);
    assert_eq!(check(&[&[4, 0][..], &[1; 16]].concat()).1, [Cause::Failed], "no MD4 here");
}

#[test]
fn evm_vouches_for_a_digest() {
    let check = |evm, value| {
        let file = OpenFile { evm, ..with_attribute(value) };
        verdict("appraise func=BPRM_CHECK appraise_type=imasig\n", &bprm(), &file, &PLAIN)
    };
    assert_eq!(check(EvmStatus::PassImmutable, &HASHED).0, Verdict::Allowed);
    assert_eq!(check(EvmStatus::Pass, &HASHED).1, [Cause::ImaSignatureRequired]);
    for (evm, cause) in [
        (EvmStatus::NoLabel, Cause::MissingHmac),
        (EvmStatus::NoXattrs, Cause::MissingHmac),
        (EvmStatus::Fail, Cause::InvalidHmac),
        (EvmStatus::FailImmutable, Cause::InvalidFailImmutable),
    ] {
        assert_eq!(check(evm, SIGNED), (Verdict::Denied, [cause].to_vec()));
    }
}

#[test]
fn verity_wants_version_3() {
    let text = "appraise func=BPRM_CHECK digest_type=verity appraise_type=sigv3\n";
    let check = |value, facts: &Facts| verdict(text, &bprm(), &with_attribute(value), facts);
    assert_eq!(check(VERITY_SIGNED, &PLAIN).0, Verdict::Allowed);
    assert_eq!(check(SIGNED, &PLAIN).1, [Cause::VeritySignatureRequired]);
    assert_eq!(check(&HASHED, &PLAIN).1, [Cause::VeritySignatureRequired]);
    let facts = Facts { signature: SignatureCheck::Bad, ..PLAIN };
    assert_eq!(check(VERITY_SIGNED, &facts).1, [Cause::InvalidVeritySignature]);
}

#[test]
fn files_are_signed_in_version_3_from_linux_7_1_on() {
    let check = |version: &str, text: &str, value: &[u8]| {
        let kernel = Kernel::new(version.parse().unwrap());
        let policy = Policy::parse(text.as_bytes(), &kernel).unwrap();
        let decider = Decider::new(&policy, &kernel, AppraiseMode::Enforce);
        let file = with_attribute(value);
        let mut inode = Inode::default();
        decider.process(&bprm(), &file, &mut inode, &mut PLAIN.clone()).unwrap().causes
    };
    const VERSION_3: &[u8] = &[3, 3, 4, 0, 0, 0, 0, 0, 1, 9];
    const VERSION_4: &[u8] = &[3, 4, 4, 0, 0, 0, 0, 0, 1, 9];
    let imasig = "appraise func=BPRM_CHECK appraise_type=imasig\n";
    assert_eq!(check("7.0", imasig, VERSION_3), [Cause::InvalidSignatureVersion]);
    assert_eq!(check("7.1", imasig, VERSION_3), []);
    assert_eq!(check("7.1", imasig, VERSION_4), [Cause::InvalidSignatureVersion]);
    let sigv3 = "appraise func=BPRM_CHECK appraise_type=sigv3\n";
    assert_eq!(check("7.1", sigv3, VERSION_3), []);
    assert_eq!(check("7.1", sigv3, SIGNED), [Cause::ImaSigv3Required]);
    assert_eq!(check("7.1", sigv3, &HASHED), [Cause::ImaSignatureRequired]);
}

#[test]
fn a_policy_that_is_written_is_measured_by_its_hook() {
    let written = Event { file: None, ..on(Func::PolicyCheck, AccessSet::NONE) };
    let kernel = Kernel::new(KernelVersion::V7_3);
    let measured = |text: &str| {
        let policy = Policy::parse(text.as_bytes(), &kernel).unwrap();
        Decider::new(&policy, &kernel, AppraiseMode::Enforce).decide(&written).measure.does()
    };
    assert!(measured("measure func=POLICY_CHECK fsmagic=0xef53 mask=MAY_READ\n"));
    assert!(!measured("measure func=POLICY_CHECK uid=1\n"));
    assert!(!measured("measure\n"), "a rule without func names no data");
}

#[test]
fn an_appended_signature_stands_in() {
    let text = "appraise func=MODULE_CHECK appraise_type=imasig|modsig\n";
    let event = on(Func::ModuleCheck, AccessSet::READ);
    let check =
        |attribute, facts: &Facts| verdict(text, &event, &OpenFile::at_rest(5, attribute), facts);
    let good = Facts { modsig: Some(SignatureCheck::Good), ..PLAIN };
    assert_eq!(check(AttributeRead::Missing, &good).0, Verdict::Allowed);
    assert_eq!(check(AttributeRead::NoAttributes, &good).0, Verdict::Allowed);
    let value = AttributeRead::Value(SIGNED);
    let unknown = Facts { signature: SignatureCheck::UnknownKey, ..good };
    assert_eq!(check(value, &unknown).0, Verdict::Allowed, "a key that is not known");
    let bad = Facts { signature: SignatureCheck::Bad, ..unknown };
    assert_eq!(check(value, &bad).1, [Cause::InvalidSignature], "a signature that is wrong");
    let blacklisted = Facts { blacklisted: true, ..bad };
    assert_eq!(check(AttributeRead::Missing, &blacklisted).1, [Cause::Blacklisted]);
}

#[test]
fn a_signed_file_is_not_written() {
    let text = "appraise func=FILE_CHECK\n";
    let event = on(Func::FileCheck, AccessSet::WRITE);
    let file = OpenFile { writable: true, ..with_attribute(SIGNED) };
    assert_eq!(verdict(text, &event, &file, &PLAIN).1, [Cause::SignedFileWritten]);
    let file = OpenFile { writable: true, ..with_attribute(&HASHED) };
    assert_eq!(verdict(text, &event, &file, &PLAIN).0, Verdict::Allowed);
}

#[test]
fn a_new_file_needs_no_attribute_yet() {
    let file = OpenFile { created: true, ..OpenFile::at_rest(5, AttributeRead::Missing) };
    assert_eq!(verdict("appraise\n", &reading(), &file, &PLAIN).0, Verdict::Allowed);
    let signed = "appraise appraise_type=imasig\n";
    let refused = verdict(signed, &reading(), &file, &PLAIN);
    assert_eq!(refused.1, [Cause::ImaSignatureRequired], "unless it has to be signed");
    let empty = OpenFile { size: 0, ..file };
    assert_eq!(verdict(signed, &reading(), &empty, &PLAIN).0, Verdict::Allowed);
}

#[test]
fn direct_reads_are_refused_or_let_through_unseen() {
    let file = OpenFile { direct: true, ..OpenFile::at_rest(5, AttributeRead::Missing) };
    let check = |text| verdict(text, &reading(), &file, &PLAIN);
    assert_eq!(check("appraise\n"), (Verdict::Denied, [Cause::FailedDirectio].to_vec()));
    assert_eq!(check("appraise permit_directio\n").0, Verdict::Allowed);
}

#[test]
fn the_oldest_template_cannot_tell_of_a_direct_read() {
    let kernel = Kernel::default();
    let file = OpenFile { direct: true, ..OpenFile::at_rest(5, AttributeRead::Missing) };
    for (template, causes, measured) in [
        // the template computes its own digest, which fails again
        ("ima", &[Cause::FailedDirectio, Cause::Failed][..], None),
        ("ima-ng", &[Cause::FailedDirectio], Some(10)),
    ] {
        let policy = policy(&std::format!("measure template={template} permit_directio\n"));
        let decider = Decider::new(&policy, &kernel, AppraiseMode::Enforce);
        let outcome =
            decider.process(&reading(), &file, &mut Inode::default(), &mut PLAIN.clone()).unwrap();
        assert_eq!((&*outcome.causes, outcome.measured), (causes, measured), "{template}");
        assert_eq!(outcome.verdict, Verdict::Allowed);
    }
}

#[test]
fn writers_elsewhere_are_told() {
    let mapped = OpenFile { mapped_writable: true, ..with_attribute(&HASHED) };
    let event = on(Func::MmapCheck, AccessSet::EXEC);
    let check = |text, file: &OpenFile<'_>| verdict(text, &event, file, &PLAIN);
    assert_eq!(check("appraise func=MMAP_CHECK\n", &mapped).1, [Cause::MmappedWriters]);
    assert_eq!(check("appraise\n", &mapped).0, Verdict::Allowed, "without func nothing is checked");

    let policy = policy("measure\n");
    let kernel = Kernel::default();
    let decider = Decider::new(&policy, &kernel, AppraiseMode::Enforce);
    let written = OpenFile { written_elsewhere: true, ..with_attribute(&HASHED) };
    let mut inode = Inode::default();
    let first = decider.process(&reading(), &written, &mut inode, &mut PLAIN.clone()).unwrap();
    assert_eq!(first.violations, [Violation::OpenWriters]);
    assert_eq!(first.measured, Some(10));
    let again = decider.process(&reading(), &written, &mut inode, &mut PLAIN.clone()).unwrap();
    assert_eq!((again.violations, again.measured), ([].to_vec(), None));
    let writing = OpenFile { writable: true, read_elsewhere: true, ..with_attribute(&HASHED) };
    let event = on(Func::FileCheck, AccessSet::WRITE);
    let third = decider.process(&event, &writing, &mut inode, &mut PLAIN.clone()).unwrap();
    assert_eq!(third.violations, [Violation::TimeOfMeasureTimeOfUse]);
}

#[test]
fn untrusted_file_systems_fail_whatever_the_signature() {
    let text = "appraise appraise_type=imasig\n";
    let check = |trust, kernel: &Kernel| {
        let policy = policy(text);
        let file = OpenFile { trust, ..with_attribute(SIGNED) };
        let decider = Decider::new(&policy, kernel, AppraiseMode::Enforce);
        decider.process(&bprm(), &file, &mut Inode::default(), &mut PLAIN.clone()).unwrap().verdict
    };
    let lax = Kernel::default();
    let strict = Kernel { fail_securely: true, ..Kernel::default() };
    assert_eq!(check(FileSystemTrust::UntrustedMounter, &lax), Verdict::Denied);
    assert_eq!(check(FileSystemTrust::Unverifiable, &lax), Verdict::Allowed);
    assert_eq!(check(FileSystemTrust::Unverifiable, &strict), Verdict::Denied);
}

#[test]
fn algorithms_are_those_that_the_rule_allows() {
    let check = |text| verdict(text, &bprm(), &with_attribute(SIGNED), &PLAIN);
    assert_eq!(check("appraise appraise_algos=sha256,sha512\n").0, Verdict::Allowed);
    let refused = check("appraise appraise_algos=sha512\n");
    assert_eq!(refused, (Verdict::Denied, [Cause::DeniedHashAlgorithm].to_vec()));
}

#[test]
fn modes_tolerate_and_fix() {
    let policy = policy("appraise func=BPRM_CHECK appraise_type=imasig\n");
    let kernel = Kernel::default();
    let run = |mode, file: &OpenFile<'_>| {
        let decider = Decider::new(&policy, &kernel, mode);
        let outcome =
            decider.process(&bprm(), file, &mut Inode::default(), &mut PLAIN.clone()).unwrap();
        (outcome.verdict, outcome.fixed, outcome.causes.len())
    };
    let bare = OpenFile::at_rest(5, AttributeRead::Missing);
    assert_eq!(run(AppraiseMode::Log, &bare), (Verdict::Tolerated, false, 1));
    assert_eq!(run(AppraiseMode::Fix, &bare), (Verdict::Allowed, true, 1));
    let sealed = OpenFile { fixable: false, ..bare };
    assert_eq!(run(AppraiseMode::Fix, &sealed), (Verdict::Tolerated, false, 1));
    assert_eq!(run(AppraiseMode::Off, &bare), (Verdict::Allowed, false, 0));
}

#[test]
fn an_earlier_event_binds_a_later_one() {
    let policy = policy(
        "measure func=FILE_CHECK digest_type=verity\nappraise func=BPRM_CHECK appraise_type=imasig\n",
    );
    let kernel = Kernel::default();
    let decider = Decider::new(&policy, &kernel, AppraiseMode::Enforce);
    let file = with_attribute(SIGNED);
    let fresh = decider.process(&bprm(), &file, &mut Inode::default(), &mut PLAIN.clone()).unwrap();
    assert_eq!(fresh.verdict, Verdict::Allowed);
    let mut inode = Inode::default();
    decider
        .process(&on(Func::FileCheck, AccessSet::EXEC), &file, &mut inode, &mut PLAIN.clone())
        .unwrap();
    let bound = decider.process(&bprm(), &file, &mut inode, &mut PLAIN.clone()).unwrap();
    assert_eq!(bound.causes, [Cause::VeritySignatureRequired]);
}

#[test]
fn each_hook_is_appraised_once() {
    let policy = policy("appraise func=BPRM_CHECK\naudit\nmeasure pcr=11\n");
    let kernel = Kernel::default();
    let decider = Decider::new(&policy, &kernel, AppraiseMode::Enforce);
    let mut inode = Inode::default();
    let file = with_attribute(&HASHED);
    let first = decider.process(&bprm(), &file, &mut inode, &mut PLAIN.clone()).unwrap();
    assert_eq!((first.measured, first.audited), (Some(11), true));
    // if it were appraised again, it would fail
    let again =
        decider.process(&bprm(), &with_attribute(&[4, 4]), &mut inode, &mut PLAIN.clone()).unwrap();
    assert_eq!((again.verdict, again.measured, again.audited), (Verdict::Allowed, None, false));
}

#[test]
fn mprotect_is_refused_where_a_mapping_is_appraised() {
    let kernel = Kernel::default();
    let refuses = |text: &str| {
        let policy = policy(text);
        Decider::new(&policy, &kernel, AppraiseMode::Log).refuses_mprotect(&reading())
    };
    assert!(refuses("appraise func=MMAP_CHECK\n"));
    assert!(refuses("appraise func=MMAP_CHECK_REQPROT\n"));
    assert!(refuses("appraise\n"));
    assert!(!refuses("appraise func=BPRM_CHECK\n"));
}
