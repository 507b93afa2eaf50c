//! The pipelines of the Linux Test Project's IMA tests (`testcases/kernel/security/integrity/ima/tests/`), whose
//! lines are copied, run by `sh` on a list of this machine's form. A program prints PCRs as tsspcrread does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ima::HashAlgorithm;
use ima_format::hex::Hex;

use super::generate::*;
use super::write;
use crate::evmctl::link;
use crate::evmctl_scripts::script;
use crate::support::*;

/// `tsspcrread -halg BANK -ha PCR -ns`
const READ_PCR: &str = r#"#!/bin/sh
[ -f "$keys/pcrs.$2" ] && sed -n "s/^PCR-$(printf %02d "$4")://p" "$keys/pcrs.$2"
"#;

/// `get_pcr10_aggregate`, `read_pcr_tpm2` and the command lines of `test1_hw_tpm` and `test2` (`ima_tpm.sh`).
const AGGREGATES: &str = r#"
    BINARY_MEASUREMENTS=$keys/list
    cmd="evmctl ima_boot_aggregate -v"
    boot_aggregate=$($cmd | grep "$ALGORITHM:" | cut -d':' -f2)
    echo "boot aggregate $boot_aggregate"
    cmd="evmctl -vv ima_measurement $BINARY_MEASUREMENTS"
    [ -z "$VIOLATIONS" ] || cmd="$cmd --ignore-violations"
    ret=0
    $cmd > hash.txt 2>&1 || ret=$?
    pcr=$(grep -E "^($ALGORITHM: )*PCRAgg(.*10)*:" hash.txt | tail -1 \
        | awk '{print $NF}')
    pcrread="tsspcrread -halg $ALGORITHM"
    hash=$($pcrread -ha 10 -ns)
    [ "$hash" = "$pcr" ] && echo "PCR 10 matches ($ret)" || echo "PCR 10 differs ($ret): $hash $pcr"
"#;

/// A list with the boot_aggregate of a bank, the values of all PCRs, and the programs.
fn machine(directory: &Path, bank: HashAlgorithm, further: Vec<Entry>) -> String {
    let mut pcrs = Pcrs::default();
    for pcr in 0..10 {
        for bank in [HashAlgorithm::Sha1, bank] {
            pcrs.extend(bank, pcr, &[pcr as u8 + 1; 20]);
        }
    }
    let last = if bank == HashAlgorithm::Sha1 { 8 } else { 10 };
    let values: Vec<_> = (0..last).flat_map(|pcr| pcrs.0[&(bank, pcr)].clone()).collect();
    let aggregate = hash(bank, &values);
    let digest = [format!("{bank}:\0").as_bytes(), &aggregate].concat();
    let boot = entry("ima-ng", fields(USUAL.endian, &[&digest, b"boot_aggregate\0"]));
    let entries: Vec<_> = [boot].into_iter().chain(further).collect();
    pcrs.0.extend(Pcrs::after(&entries).0);
    for bank in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
        pcrs.write_bank(bank, directory);
    }
    write(directory, "list", &binary(USUAL, &entries));
    Hex(&aggregate).to_string()
}

fn programs(directory: &Path) -> bool {
    // imactl reads a TPM in sysfs first, which is not the one of the test
    let is_virtual = !Path::new("/sys/class/tpm/tpm0").exists();
    if !is_virtual {
        missing("a machine without a TPM");
    }
    link(directory);
    let reader = write(directory, "tsspcrread", READ_PCR.as_bytes());
    fs::set_permissions(reader, fs::Permissions::from_mode(0o755)).unwrap();
    is_virtual
}

#[test]
fn aggregates_are_found_in_the_output() {
    let directory = directory();
    let directory = directory.path();
    if !programs(directory) {
        return;
    }
    let entries = || vec![file(USUAL.endian, "/a", b"a"), file(USUAL.endian, "/b", b"b")];
    for bank in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
        let run = |violations: &str| {
            let text = format!("ALGORITHM={bank} VIOLATIONS={violations}\n{AGGREGATES}");
            script(directory, directory, &text).exits(0).stdout
        };
        let aggregate = machine(directory, bank, entries());
        let expected = format!("boot aggregate {aggregate}\nPCR 10 matches (0)\n");
        assert_eq!(run(""), expected);

        let mut further = entries();
        further.push(file(USUAL.endian, "/c", b"c").violation());
        let aggregate = machine(directory, bank, further);
        let matches = format!("boot aggregate {aggregate}\nPCR 10 matches");
        assert_eq!(run("1"), format!("{matches} (0)\n"));
        // the script goes on after this status
        assert_eq!(run(""), format!("{matches} (1)\n"));

        // an entry that no PCR was extended with
        let mut forged = entries();
        forged.insert(0, file(USUAL.endian, "/forged", b"d"));
        fs::rename(directory.join("list"), directory.join("other")).unwrap();
        write(directory, "list", &binary(USUAL, &forged));
        assert!(run("").contains("PCR 10 differs (1)"), "{bank}");
    }
}

/// `check_evmctl` (`ima_setup.sh`), with the versions that `ima_tpm.sh` and `ima_keys.sh` require.
#[test]
fn the_version_is_compared() {
    let directory = directory();
    let directory = directory.path();
    link(directory);
    let text = r#"
        check_evmctl()
        {
            local required="$1"

            local r1="$(echo $required | cut -d. -f1)"
            local r2="$(echo $required | cut -d. -f2)"
            local r3="$(echo $required | cut -d. -f3)"
            [ -z "$r3" ] && r3=0

            local v="$(evmctl --version | cut -d' ' -f2)"
            [ -z "$v" ] && return 1

            local v1="$(echo $v | cut -d. -f1)"
            local v2="$(echo $v | cut -d. -f2)"
            local v3="$(echo $v | cut -d. -f3)"
            [ -z "$v3" ] && v3=0

            if [ $v1 -lt $r1 ] || [ $v1 -eq $r1 -a $v2 -lt $r2 ] || \
                [ $v1 -eq $r1 -a $v2 -eq $r2 -a $v3 -lt $r3 ]; then
                return 1
            fi
            return 0
        }
        for required in 1.1 1.3.1 1.3.2 1.6.2 1.7 2.0; do
            check_evmctl $required && echo $required || true
        done
    "#;
    let accepted = script(directory, directory, text).exits(0).stdout;
    assert_eq!(accepted, "1.1\n1.3.1\n1.3.2\n1.6.2\n");
}
