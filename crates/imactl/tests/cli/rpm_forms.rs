//! Packages encoded byte by byte (`testdata/rpm/make.py`): of formats that the installed rpm does not build, and
//! with contradictory headers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../testdata/rpm/{name}.rpm"))
}

/// The fault, the exit status of `verify --payload`, and its message.
const LIES: &[(&str, i32, &str)] = &[
    ("count_is_a_million", 2, "tag 1028 continues past the store at offset 464"),
    ("count_is_zero", 2, "tag 1028 has 0 values at offset 464"),
    ("count_overflows", 2, "tag 1028 has 1073741825 values at offset 464"),
    ("digest_algorithm_is_unknown", 2, "unknown digest algorithm 99 at offset 944"),
    ("digest_is_not_hexadecimal", 2, "not a digest of the package's algorithm at offset 720"),
    ("digest_is_too_short", 2, "not a digest of the package's algorithm at offset 720"),
    ("digests_are_exchanged", 1, r#""content":"differs""#),
    ("digests_are_numbers", 2, "tag 1035 is of type 4 at offset 720"),
    ("directory_has_no_slash", 2, "does not end with a slash at offset 917"),
    ("directory_index_is_past_the_list", 2, "there is no directory 2147483647 at offset 900"),
    ("directory_is_not_in_the_payload", 1, r#""verdict":"content-missing""#),
    ("directory_leads_back", 2, "a directory name that leads back"),
    ("entry_after_region_begins_past_the_store", 2, "begins at 500 in the store, not at 170"),
    ("entry_after_region_overlaps_the_trailer", 2, "begins at 100 in the store, not at 170"),
    ("entry_has_the_tag_of_a_region", 2, "tag 63 is not the first entry's, but is a region's"),
    ("fewer_digests_than_files", 2, "tag 1035 has 1 values, where 2 have to be at offset 720"),
    ("file_has_no_digest", 1, r#""verdict":"no-digest""#),
    ("file_is_of_no_type", 2, "mode 50755: an unknown type"),
    ("file_signature_is_not_hexadecimal", 2, "not hexadecimal at offset 316"),
    ("files_have_no_digests", 1, r#""content":"no-digest""#),
    ("files_have_no_directories", 2, "tag 1118 is missing at offset 368"),
    ("files_have_no_modes", 2, "tag 1030 is missing at offset 368"),
    ("ghost_is_numbered", 1, "a file that the header does not list at offset 280"),
    ("hard_link_has_another_digest", 1, r#""content":"differs""#),
    ("hard_link_has_no_content", 1, r#""content":"missing""#),
    ("hard_link_has_no_digest", 1, r#""verdict":"no-digest""#),
    ("hard_link_has_the_content_first", 1, "do not follow one another at offset 152"),
    ("hard_link_has_the_content_twice", 1, "22 bytes, where the header says 0 at offset 0"),
    ("hard_link_is_not_in_the_payload", 1, r#""content":"missing""#),
    ("hard_link_is_parted", 1, "the names of a hard link do not follow one another at offset 128"),
    ("lead_is_cut", 2, "truncated: 96 bytes needed, 50 left at offset 0"),
    ("lead_is_of_version_9", 2, "RPM lead of version 9; 3 and 4 are known at offset 4"),
    ("link_has_no_target", 2, "or a symbolic link without a target"),
    ("main_header_claims_256_mib", 2, "268435775 bytes needed, 1072 left at offset 368"),
    ("main_header_claims_4_gib", 2, "a header's store of 4294967295 bytes"),
    ("main_header_has_65536_entries", 2, "a header of 65536 entries"),
    ("main_header_has_an_entry_after_its_region", 2, "the region does not hold the whole header"),
    ("main_header_has_file_signatures", 2, "tag 5090 in the main header: rpm reads it"),
    ("main_header_has_whole_paths", 2, "tag 1027 in the main header: rpm reads it"),
    ("modes_are_of_32_bits", 2, "tag 1030 is of type 4 at offset 716"),
    ("more_file_signatures_than_files", 2, "tag 274 has 3 values, where 2 have to be"),
    ("more_sizes_than_files", 2, "tag 1028 has 3 values, where 2 have to be at offset 708"),
    ("name_has_a_slash", 2, "a file name that leads to another directory at offset 904"),
    ("name_is_empty", 2, "a file name that leads to another directory"),
    ("path_stands_twice", 1, "the header lists /usr/bin/sample twice"),
    ("payload_brings_a_file_twice", 1, "a file that is in the payload twice at offset 152"),
    ("payload_brings_another_file", 1, "a file that the header does not list at offset 0"),
    ("payload_brings_no_file", 1, r#""content":"missing""#),
    ("payload_claims_4_gib", 1, "a file of 4294967295 bytes, where the header says 22"),
    ("payload_field_is_not_hexadecimal", 1, "a cpio field that is not hexadecimal at offset 61"),
    ("payload_has_no_magic", 1, "no cpio entry's magic number at offset 0"),
    ("payload_is_cut", 1, "the payload does not unpack after 110 bytes"),
    ("payload_name_claims_4_gib", 1, "a name of 4294967295 bytes at offset 94"),
    ("payload_name_escapes", 1, "a file that the header does not list at offset 0"),
    ("payload_number_is_past_the_list", 1, "a file that the header does not list at offset 0"),
    ("region_is_larger_than_the_index", 2, "does not hold the whole header at offset 1028"),
    ("region_is_missing", 2, "the first entry is not the header's region at offset 384"),
    ("region_trailer_is_negative", 2, "trailer is not where it has to be at offset 392"),
    ("region_trailer_is_of_another_tag", 2, "trailer is not where it has to be at offset 1020"),
    ("region_trailer_is_past_the_store", 2, "trailer is not where it has to be at offset 392"),
    ("signature_header_claims_4_gib", 2, "a header's store of 4294967295 bytes"),
    ("signature_header_claims_64_mib", 2, "67108960 bytes needed, 1344 left at offset 96"),
    ("signature_header_has_33_entries", 2, "a header of 33 entries, where 32 are allowed"),
    ("signature_header_has_4_gib_of_entries", 2, "a header of 4294967295 entries"),
    ("signature_header_has_no_entry", 2, "a header without entries at offset 104"),
    ("signature_header_has_no_magic", 2, "no header's magic number at offset 96"),
    ("signature_header_is_cut", 2, "truncated: 272 bytes needed, 100 left at offset 96"),
    ("signed_directory", 1, r#""verdict":"no-content""#),
    ("string_is_counted_twice", 2, "tag 1000 has 2 values at offset 400"),
    ("strings_have_no_end", 2, "tag 1035 continues past the store at offset 496"),
    ("tag_stands_in_the_region_and_after_it", 2, "duplicate tag 1004 at offset 192"),
    ("tag_stands_twice", 2, "duplicate tag 1001 at offset 432"),
    ("type_is_unknown", 2, "tag 1000 is of type 10, which there is not at offset 400"),
    ("value_begins_before_the_store", 2, "tag 1000 begins at 4294967295 in the store, not at 0"),
    ("value_begins_past_the_store", 2, "tag 1000 begins at 2147483647 in the store, not at 0"),
    ("value_is_not_aligned", 2, "tag 1028 begins at 27 in the store, not at 20 at offset 464"),
    ("value_overlaps_another", 2, "tag 1001 begins at 0 in the store, not at 7 at offset 416"),
    ("values_leave_a_gap", 2, "tag 1001 begins at 8 in the store, not at 7 at offset 416"),
];

/// Packages in which only the file signatures are wrong.
const REPLACED: &[&str] =
    &["file_signature_is_not_hexadecimal", "more_file_signatures_than_files", "signed_directory"];

#[test]
fn each_lie_is_told_with_its_place() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    for (name, code, said) in LIES {
        let args = args!["verify", "--payload", "--json", "--keys", keys, sample(name)];
        let found = run(args).exits(*code);
        assert!(found.stdout.contains(said), "{name}: {}", found.stdout);
        // bad file signatures are replaced; packages with other contradictions are not signed
        if REPLACED.contains(name) {
            continue;
        }
        let copy = directory.path().join(name);
        fs::copy(sample(name), &copy).unwrap();
        let refused = run(args!["sign", "--kind", "rpm", "--keys", keys, copy]);
        assert_eq!(refused.code, Some(2), "{name}");
        assert_eq!(fs::read(&copy).unwrap(), fs::read(sample(name)).unwrap(), "{name}");
    }
}

#[test]
fn no_lie_is_left_out() {
    let mut names: Vec<_> = fs::read_dir(sample("x").parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !name.starts_with("format_"))
        .collect();
    names.sort();
    assert_eq!(names, LIES.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
}

#[test]
fn lies_take_little_memory() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    for (name, code, _) in LIES.iter().filter(|(name, ..)| name.contains("claims")) {
        // in KiB of address space; most of it is the program itself with its threads
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "ulimit -v 400000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_imactl")]);
        let args = args!["verify", "--payload", "--jobs", "1", "--keys", keys, sample(name)];
        finish(limited.args(args)).exits(*code);
    }
}

#[test]
fn packages_of_both_formats_are_signed_and_brought_back() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-2048");
    for (name, format) in [("format_4", 4), ("format_6", 6)] {
        for reserved in ["--reserved-space", "--jobs=1"] {
            let package = directory.path().join(format!("{name}.rpm"));
            fs::copy(sample(name), &package).unwrap();
            run(args!["sign", reserved, "--keys", keys, package]).exits(0);
            let verified = run(args!["verify", "--payload", "--json", "--keys", keys, package]);
            let verified = verified.exits(0).json();
            assert_eq!(verified[0]["format"], format);
            assert_eq!(verified[0]["signed"], 2);
            if let Some(mut rpm) = tool("rpm") {
                rpm.args(["-qp", "--nosignature", "--queryformat", "%{FILESIGNATURES:arraysize}"]);
                assert_eq!(finish(rpm.arg(&package)).exits(0).stdout, "2");
            }
            // the filler of format 6 has space for both, that of this package of format 4 does not
            let same_size = format == 6 && reserved == "--reserved-space";
            let sizes = [&package, &sample(name)].map(|path| fs::metadata(path).unwrap().len());
            assert_eq!(sizes[0] == sizes[1], same_size, "{name} {reserved}");
            run(args!["clear", package]).exits(0);
            assert!(fs::read(&package).unwrap() == fs::read(sample(name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn only_regular_files_of_the_payload_are_signed() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let package = directory.path().join("package.rpm");
    for (name, signatures) in [
        ("format_4_device_has_a_digest", "110"),
        ("format_4_directory_has_a_digest", "110"),
        ("format_4_ghost_has_a_digest", "110"),
        ("format_4_ghost_is_in_the_payload", "110"),
        ("format_4_link_has_a_digest", "110"),
        ("format_4_paths_are_absolute", "11"),
        ("format_4_two_names", "11"),
        ("signed_directory", "110"),
    ] {
        for header_alone in [&[][..], &["--trust-header"], &["--changed"]] {
            fs::copy(sample(name), &package).unwrap();
            let args = args!["sign", "--keys", keys, package].to_vec();
            run(args.into_iter().chain(header_alone.iter().map(Into::into))).exits(0);
            run(args!["verify", "--payload", "--keys", keys, package]).exits(0);
            let inspected = run(args!["inspect", "--json", package]).exits(0).json();
            let signed = inspected[1..].iter().map(|file| match file["attribute"].is_null() {
                true => '0',
                false => '1',
            });
            assert_eq!(signed.collect::<String>(), signatures, "{name}: {inspected:?}");
        }
    }
}

#[test]
fn a_trusted_header_is_signed_without_its_payload() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let package = directory.path().join("package.rpm");
    for (name, code) in [
        ("payload_is_cut", 0),
        ("digests_are_exchanged", 0),
        // the header contradicts itself
        ("hard_link_has_another_digest", 2),
        ("hard_link_has_no_digest", 2),
    ] {
        fs::copy(sample(name), &package).unwrap();
        run(args!["sign", "--keys", keys, package]).exits(2);
        run(args!["sign", "--no-payload", "--keys", keys, package]).exits(code);
    }
}

#[test]
fn entries_after_the_region_are_kept() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-2048");
    let package = directory.path().join("package.rpm");
    let appended = || {
        let mut rpm = tool("rpm")?;
        let format = "%{RSAHEADER:arraysize} %{RSAHEADER} %{ARCHIVESIZE} %{LONGARCHIVESIZE}";
        rpm.args(["-qp", "--nosignature", "--queryformat", format]).arg(&package);
        Some(finish(&mut rpm).exits(0).stdout)
    };
    for name in [
        "format_4_entry_after_region",
        "format_4_entries_after_region",
        "format_6_entries_after_region",
    ] {
        for reserved in ["--reserved-space", "--jobs=1"] {
            fs::copy(sample(name), &package).unwrap();
            let before = appended();
            run(args!["verify", "--payload", "--keys", keys, package]).exits(1);
            run(args!["sign", reserved, "--keys", keys, package]).exits(0);
            run(args!["verify", "--payload", "--keys", keys, package]).exits(0);
            assert_eq!(appended(), before, "{name}");
            run(args!["clear", package]).exits(0);
            assert!(fs::read(&package).unwrap() == fs::read(sample(name)).unwrap(), "{name}");
        }
    }
    // existing file signatures are replaced and removed as in other packages
    let name = sample("format_4_file_signatures_after_region");
    fs::copy(name, &package).unwrap();
    run(args!["clear", package]).exits(0);
    assert!(fs::read(&package).unwrap() == fs::read(sample("format_4")).unwrap());
}

#[test]
fn however_it_was_signed_clear_gives_the_original_bytes() {
    let directory = directory();
    let stores = [store(directory.path(), "p-256"), store(directory.path(), "rsa-2048")];
    let package = directory.path().join("package.rpm");
    for name in ["format_4", "format_6", "format_6_entries_after_region"] {
        let original = fs::read(sample(name)).unwrap();
        // each with the key, and whether the reserved space is used
        for rounds in [
            &[(0, true)][..],
            &[(0, false)],
            &[(0, true), (0, false)],
            &[(0, false), (0, true)],
            &[(0, true), (1, true), (0, true)],
            &[(1, true), (0, false), (1, true)],
        ] {
            fs::write(&package, &original).unwrap();
            for (key, reserved) in rounds {
                let option = if *reserved { "--reserved-space" } else { "--jobs=1" };
                run(args!["sign", option, "--keys", stores[*key], package]).exits(0);
                let signed = fs::read(&package).unwrap();
                run(args!["sign", option, "--keys", stores[*key], package]).exits(0);
                // RSA signatures are deterministic, and so is the rest
                assert_eq!(fs::metadata(&package).unwrap().len(), signed.len() as u64);
                let keeps_size = name.starts_with("format_6") && *reserved;
                assert_eq!(signed.len() == original.len(), keeps_size, "{name} {rounds:?}");
                run(args!["verify", "--payload", "--keys", stores[*key], package]).exits(0);
            }
            // per file, too
            for include in ["usr/bin/*", "empty"] {
                run(args!["clear", "--include", include, package]).exits(0);
            }
            assert!(fs::read(&package).unwrap() == original, "{name} {rounds:?}");
        }
    }
}

#[test]
fn files_in_a_package_that_is_named_are_selected() {
    let directory = directory();
    let (keys, other) = (store(directory.path(), "p-256"), store(directory.path(), "p-384"));
    let package = directory.path().join("package.rpm");
    fs::copy(sample("format_6"), &package).unwrap();
    let signed_by = |keys: &Path, options: &[&str]| {
        let args = args!["verify", "--json", "--keys", keys, package].to_vec();
        let run = run(args.into_iter().chain(options.iter().map(Into::into)));
        let lines = run.json();
        let files = lines.iter().filter(|line| line["type"] == "file" && line["valid"] == true);
        files.map(|line| line["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    run(args!["sign", "--include", "usr/bin/*", "--keys", keys, package]).exits(0);
    assert_eq!(signed_by(&keys, &[]), ["/usr/bin/sample"]);
    run(args!["verify", "--keys", keys, package]).exits(1);
    run(args!["verify", "--include", "/usr/bin/*", "--keys", keys, package]).exits(0);
    // files that are not selected keep their signatures
    run(args!["sign", "--exclude", "usr/bin", "--keys", other, package]).exits(0);
    assert_eq!(signed_by(&keys, &[]), ["/usr/bin/sample"]);
    assert_eq!(signed_by(&other, &[]), ["/usr/share/empty"]);
    let json = run(args!["inspect", "--json", "--include", "empty", package]).exits(0).json();
    assert_eq!(json.len(), 2, "the package and one file");
    let again =
        args!["sign", "--changed", "--json", "--include", "empty", "--keys", other, package];
    assert_eq!(run(again).exits(0).json()[0]["result"], "unchanged");
    run(args!["clear", "--include", "empty", package]).exits(0);
    assert_eq!(signed_by(&keys, &[]), ["/usr/bin/sample"]);
    assert_eq!(signed_by(&other, &[]), [""; 0]);
    let bare = run(args!["clear", "--json", "--include", "empty", package]).exits(0).json();
    assert_eq!(bare[0]["result"], "unsigned");
    run(args!["clear", package]).exits(0);
    assert!(fs::read(&package).unwrap() == fs::read(sample("format_6")).unwrap());
}

#[test]
fn packages_of_a_directory_keep_their_places_below_another() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let repository = directory.path().join("repository");
    for place in ["x86_64", "noarch"] {
        fs::create_dir_all(repository.join(place)).unwrap();
        fs::copy(sample("format_4"), repository.join(place).join("sample.rpm")).unwrap();
    }
    let out = directory.path().join("out");
    run(args!["sign", "-r", "--output-dir", out, "--keys", keys, repository]).exits(0);
    for place in ["x86_64/sample.rpm", "noarch/sample.rpm"] {
        run(args!["verify", "--keys", keys, out.join(place)]).exits(0);
    }
    let within = repository.join("signed");
    let refused = run(args!["sign", "-r", "--output-dir", within, "--keys", keys, repository]);
    assert!(refused.exits(2).stderr.contains("inside a directory that is being read"));
    assert!(!within.exists());
}

#[test]
fn summaries_count_every_package() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let repository = directory.path().join("repository");
    fs::create_dir(&repository).unwrap();
    fs::write(repository.join("readme"), b"").unwrap();
    let sign = args!["sign", "--keys", keys, "-r", repository].to_vec();
    let clear = args!["clear", "-r", repository].to_vec();
    for (done, args) in [("signed", sign), ("cleared", clear)] {
        let empty = run(&args).exits(0);
        assert!(empty.stdout.starts_with("no packages, skipped 1 other file"), "{empty:?}");
        fs::copy(sample("format_4"), repository.join("good.rpm")).unwrap();
        fs::copy(sample("lead_is_cut"), repository.join("bad.rpm")).unwrap();
        let failed = run(&args).exits(2);
        assert!(failed.stdout.contains(&format!("; 1 package not {done}")), "{failed:?}");
        fs::remove_file(repository.join("good.rpm")).unwrap();
        fs::remove_file(repository.join("bad.rpm")).unwrap();
    }
}

#[test]
fn an_unsigned_source_package_is_called_one() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let package = directory.path().join("package.rpm");
    let mut bytes = fs::read(sample("format_4")).unwrap();
    // a source package is marked in the lead, and has no tag that names its source
    bytes[7] = 1;
    fs::write(&package, bytes).unwrap();
    let found = run(args!["verify", "--keys", keys, package]).exits(1);
    assert!(found.stdout.contains("a source package, whose files no kernel sees"), "{found:?}");
}
