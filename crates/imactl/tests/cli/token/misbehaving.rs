//! Tokens that refuse, disappear, or behave unusually.

use std::fs;

use super::device::*;
use crate::support::*;

#[test]
fn a_wrong_pin_is_tried_once() {
    let Some(mut token) = token() else { return };
    token.behaves(&[]);
    let uri = token.uri("object=p-256");
    token.environment.insert("PIN", "4321".into());
    let refused = token.sign(&uri, &["--jobs", "4"]).exits(2);
    assert!(refused.stderr.contains("tried once"), "{}", refused.stderr);
    assert_eq!(token.log(), "login with a PIN\n");
    assert_eq!(token.signatures(), 0);
    for secret in ["4321", PIN] {
        assert!(!refused.stderr.contains(secret), "{}", refused.stderr);
    }
    // earlier failures do not prevent a try, but the last try is only used for a PIN that a user types
    token.environment.remove("PIN");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(token.log(), "login with a PIN\n".repeat(2));
    token.environment.insert("SHIM_FLAGS", "0x20000".into());
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("one more wrong PIN locks it"), "{}", refused.stderr);
    token.environment.insert("SHIM_FLAGS", "0x40000".into());
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("PIN is locked"), "{}", refused.stderr);
    assert_eq!(token.log(), "login with a PIN\n".repeat(2), "neither was tried");
}

#[test]
fn a_token_that_goes_away_loses_nothing() {
    let Some(mut token) = token() else { return };
    let certificate = token.certificate("p-256");
    token.behaves(&[("SHIM_REMOVED_AFTER", "13")]);
    let uri = token.uri("object=p-256");
    for jobs in ["1", "3"] {
        run(args!["clear", "--detached", token.path("files")]).exits(0);
        let signed = token.sign(&uri, &["--jobs", jobs]).exits(2);
        // reported once per thread, not once per file
        let told = signed.stderr.matches("CKR_DEVICE_REMOVED").count();
        assert!((1..=3).contains(&told), "{}", signed.stderr);
        assert!(signed.stderr.contains("hint: files signed so far are valid"));
        // one of the 13 was the test signature before the first file
        assert_eq!(token.signatures(), 12, "{}", signed.stdout);
        assert!(signed.stdout.contains("signed 12 files"), "{}", signed.stdout);
        assert!(signed.stdout.contains("28 files not signed"), "{}", signed.stdout);
    }
    // no partial signature, and no other file is left
    let files = token.path("files");
    assert_eq!(fs::read_dir(&files).unwrap().count(), 40 + 12);
    let verified = run(args!["verify", "--json", "--detached", "--cert", certificate, files]);
    let valid = verified.json().iter().filter(|line| line["verdict"] == "valid").count();
    assert_eq!(valid, 12);

    // every file has its JSON line, and the run can be completed
    token.environment.insert("SHIM_REMOVED_AFTER", "10".into());
    let signed = token.sign(&uri, &["--json", "--changed", "--jobs", "1"]).exits(2);
    let lines = signed.json();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("file"), of("error"), of("summary")), (12 + 9, 19, 1), "{}", signed.stdout);
    token.environment.remove("SHIM_REMOVED_AFTER");
    token.sign(&uri, &["--changed"]).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, files]).exits(0);
}

#[test]
fn a_softhsm_that_loses_its_files_is_told() {
    let Some(token) = token() else { return };
    fs::remove_dir_all(token.path("tokens")).unwrap();
    fs::create_dir(token.path("tokens")).unwrap();
    let refused = token.sign(&token.uri("object=p-256"), &[]).exits(2);
    assert!(refused.stderr.contains("no such token; none found"), "{}", refused.stderr);
}

#[test]
fn tokens_that_limit_sessions_serve_the_threads_in_turn() {
    let Some(mut token) = token() else { return };
    let certificate = token.certificate("p-256");
    token.behaves(&[]);
    let uri = token.uri("object=p-256");
    for settings in [("SHIM_SESSIONS", "1"), ("SHIM_SESSIONS", "3"), ("SHIM_CANT_LOCK", "1")] {
        token.environment.insert(settings.0, settings.1.into());
        run(args!["clear", "--detached", token.path("files")]).exits(0);
        token.sign(&uri, &["--jobs", "8"]).exits(0);
        run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
        token.environment.remove(settings.0);
    }
    token.environment.insert("SHIM_SESSIONS", "0".into());
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("C_OpenSession: CKR_SESSION_COUNT"), "{}", refused.stderr);
}

#[test]
fn a_pin_pad_is_left_to_ask() {
    let Some(mut token) = token() else { return };
    token.behaves(&[("SHIM_PIN_PAD", PIN)]);
    let uri = token.uri("object=p-256");
    let signed = token.imactl(args!["sign", "--detached", "--key", uri, token.path("files")]);
    assert!(signed.exits(0).stderr.contains("at the device"));
    assert_eq!(token.log(), "login at the device\n");
    // a PIN that is given anyway is passed to the token
    token.sign(&uri, &[]).exits(0);
    assert_eq!(token.log(), "login at the device\nlogin with a PIN\n");
}

#[test]
fn a_key_that_wants_the_pin_for_each_signature_gets_it() {
    let Some(mut token) = token() else { return };
    let make = ["--keypairgen", "--key-type", "EC:secp256r1", "--label", "always", "--id", "06"];
    token.tool(&[&make[..], &["--always-auth"]].concat());
    let certificate = token.certificate("always");
    token.behaves(&[]);
    token.sign(&token.uri("object=always"), &["--jobs", "4"]).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
    // the token's own, the test signature, and one per file
    assert_eq!(token.log().lines().count(), 1 + 1 + 40);
}

#[test]
fn a_signature_that_is_none_is_not_written() {
    let Some(mut token) = token() else { return };
    token.behaves(&[("SHIM_WRONG", "1")]);
    for label in ["p-256", "rsa-2048"] {
        let refused = token.sign(&token.uri(&format!("object={label}")), &[]).exits(2);
        assert!(
            refused.stderr.contains("did not make a signature by this key"),
            "{}",
            refused.stderr
        );
        assert_eq!(token.signatures(), 0);
    }
}
