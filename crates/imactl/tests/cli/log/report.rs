//! `imactl report`: the page as a file, and as a browser shows it.

use super::*;
use crate::support::browser::{Browser, Scripts};

/// A name with markup, and with characters that change the direction of writing.
const HOSTILE: &str = "/tmp/<script>alert(1)</script>\u{202e}\"&'gpj.sh";

/// A boot with a violation and a hostile name.
fn boot() -> Vec<Entry> {
    let mut entries = templates(USUAL.endian);
    entries.extend((0..60).map(|number| {
        file(USUAL.endian, &format!("/usr/lib/part{}/file{number}", number % 3), b"content")
    }));
    entries.push(file(USUAL.endian, HOSTILE, b"hostile"));
    entries.push(file(USUAL.endian, "/var/log/x", b"").violation());
    entries
}

struct Written {
    directory: tempfile::TempDir,
    page: PathBuf,
    text: String,
}

/// The page for a list and the values of its PCRs.
fn report(entries: &[Entry], pcrs: &Pcrs, code: i32) -> Written {
    let directory = directory();
    let list = write(directory.path(), "list", &binary(USUAL, entries));
    let pcrs = pcrs.write(&directory.path().join("pcrs"));
    let page = directory.path().join("report.html");
    let ran = run(args!["report", "--list", list, "--pcrs", pcrs, "-o", page]).exits(code);
    let text = fs::read_to_string(&page).unwrap();
    let size = text.len().to_string();
    assert!(ran.stdout.replace(',', "").contains(&format!("{size} bytes")), "{}", ran.stdout);
    Written { directory, page, text }
}

/// The pieces of a text between two marks.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

#[test]
fn the_page_answers_whether_list_and_pcrs_agree() {
    let entries = boot();
    let good = &entries[..entries.len() - 1];
    let word = |written: &Written| {
        let words = between(&written.text, "<p class=\"word\">", "</p>");
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let written = report(good, &Pcrs::after(good), 0);
    assert_eq!(word(&written), ["Yes"]);
    assert!(written.text.contains("sha256 PCR 10 matches."), "{}", written.text);
    assert!(written.text.contains("No violation, and no entry that was changed."));
    // a violation is a finding, but list and PCRs agree
    let written = report(&entries, &Pcrs::after(&entries), 1);
    assert_eq!(word(&written), ["Yes"]);
    assert!(written.text.contains("Violations and other findings (1)"));
    // the page has the reason that log verify prints
    let mut changed = good.to_vec();
    changed.push(file(USUAL.endian, "/usr/bin/added", b"added"));
    changed.push(file(USUAL.endian, "/usr/bin/last", b"last"));
    let mut without = changed.clone();
    without.remove(good.len());
    let written = report(&changed, &Pcrs::after(&without), 1);
    assert_eq!(word(&written), ["No"]);
    let list = written.directory.path().join("list");
    let pcrs = written.directory.path().join("pcrs");
    let lines = run(args!["log", "verify", "--json", "--pcrs", pcrs, list]).exits(1).json();
    let why = of_type(&lines, "pcr")[0]["why"].as_str().unwrap().to_owned();
    assert!(written.text.contains(&why), "{why}");
    // without values nothing is compared
    let page = written.directory.path().join("other.html");
    let options = args!["report", "--json", "--list", list, "-o", page];
    let line = run(options).exits(1).json().pop().unwrap();
    assert_eq!((&line["type"], line.get("agrees")), (&"report".into(), None));
    assert!(fs::read_to_string(page).unwrap().contains("<p class=\"word\">Not known</p>"));
}

#[test]
fn a_list_that_is_cut_is_in_the_page_and_an_error() {
    let entries = boot();
    let directory = directory();
    let bytes = binary(USUAL, &entries);
    let list = write(directory.path(), "list", &bytes[..bytes.len() - 3]);
    let page = directory.path().join("report.html");
    let ran = run(args!["report", "--list", list, "-o", page]).exits(2);
    assert!(ran.stderr.contains("is malformed at offset"), "{}", ran.stderr);
    let text = fs::read_to_string(page).unwrap();
    assert!(text.contains("is malformed at offset"), "{text}");
    assert!(text.contains("<p class=\"word\">No</p>"), "{text}");
}

#[test]
fn the_page_is_the_same_for_the_same_input_and_needs_nothing_else() {
    let entries = boot();
    let [one, other] = [(); 2].map(|()| report(&entries, &Pcrs::after(&entries), 1));
    let name = |written: &Written| {
        let directory = written.directory.path().to_str().unwrap().to_owned();
        written.text.replace(&directory, "")
    };
    assert!(name(&one) == name(&other));
    for reference in ["http:", "https:", "src=", "url(", "@import", " style=\"", " onclick"] {
        assert!(!one.text.contains(reference), "{reference}");
    }
    assert_eq!(between(&one.text, "<script", "</script>").len(), 1);
    assert!(!one.text.contains('\u{202e}'));
}

#[test]
fn events_have_the_times_of_the_audit_log() {
    let directory = directory();
    let entries = [
        file(USUAL.endian, "boot_aggregate", b"boot"),
        file(USUAL.endian, "/etc/x", b"X"),
        file(USUAL.endian, "/etc/x", b"Y"),
    ];
    let record = |second: u32, content: &[u8]| {
        let hash = ima_format::hex::Hex(&hash(HashAlgorithm::Sha256, content)).to_string();
        format!(
            "type=INTEGRITY_RULE msg=audit(1700000{second:03}.000:1): file=\"/etc/x\" \
             hash=\"sha256:{hash}\" ppid=1 pid=2 comm=\"sh\"\n"
        )
    };
    let audit = [record(1, b"X"), record(2, b"Y"), record(3, b"X")].concat();
    let list = write(directory.path(), "list", &binary(USUAL, &entries));
    let audit = write(directory.path(), "audit.log", audit.as_bytes());
    let page = directory.path().join("report.html");
    run(args!["report", "--list", list, "--audit", audit, "-o", page]).exits(1);
    let text = fs::read_to_string(page).unwrap();
    assert!(text.contains("Files that went back to an earlier digest (1)"), "{text}");
    assert!(text.contains("1700000003.000"), "{text}");
}

#[test]
fn long_lists_have_a_short_page() {
    let file = |number: u32| {
        let name = format!("/usr/lib/part{}/file{number}", number % 5000);
        let entry = file(USUAL.endian, &name, b"content");
        if number % 2 == 0 {
            entry.violation()
        } else {
            entry
        }
    };
    let entries: Vec<_> = (0..20_000).map(file).collect();
    let written = report(&entries, &Pcrs::after(&entries), 1);
    assert!(written.text.len() < 1 << 20, "{} bytes", written.text.len());
    assert!(written.text.contains("The first 1,000 of 20,000; imactl log show --json prints all."));
    assert!(written
        .text
        .contains("The first 1,000 of 10,000; imactl log verify --json prints all."));
    assert!(written.text.contains("all others"));
}

#[test]
fn a_browser_shows_the_page() {
    let entries = boot();
    let written = report(&entries, &Pcrs::after(&entries), 1);
    let Some(mut browser) = Browser::new() else { return };
    let url = format!("file://{}", written.page.display());
    const ROWS: &str = "document.querySelectorAll('tbody tr').length";
    let rows = written.text.matches("<tr><td").count();
    for scripts in [Scripts::Off, Scripts::Run] {
        let (requests, errors) = browser.load(&written.page, scripts);
        assert_eq!(requests, std::slice::from_ref(&url), "{scripts:?}");
        assert!(errors.is_empty(), "{scripts:?}: {errors:?}");
        assert_eq!(browser.value(ROWS), rows, "{scripts:?}");
        let buttons = browser.value("document.querySelectorAll('button, input').length");
        assert_eq!(buttons != 0, scripts == Scripts::Run, "{scripts:?}");
        // the Content Security Policy accepts the style, too
        let family = browser.value("getComputedStyle(document.body).margin");
        assert_eq!(family, "0px", "{scripts:?}");
    }
    // sorting and filtering
    let table = "Array.from(document.querySelectorAll('details.table')).find(it => \
                 it.querySelector('summary').textContent.startsWith('Entries ('))";
    let first = format!("({table}).querySelector('tbody tr td').dataset.value");
    let click = format!("({table}).querySelector('th button').click()");
    assert_eq!(browser.value(&first), "0");
    browser.value(&click);
    assert_eq!(browser.value(&first), (entries.len() - 1).to_string());
    let sorted = format!("({table}).querySelector('th').getAttribute('aria-sort')");
    assert_eq!(browser.value(&sorted), "descending");
    browser.value(&click);
    assert_eq!(browser.value(&first), "0");
    browser.value(&format!(
        "const input = ({table}).querySelector('input'); input.value = 'PART2/'; \
         input.dispatchEvent(new Event('input'))"
    ));
    let shown = format!("({table}).querySelectorAll('tbody tr:not([hidden])').length");
    assert_eq!(browser.value(&shown), 20);
    // the name is shown as text
    let shown = browser.value("document.body.textContent.includes('<script>alert(1)')");
    assert_eq!(shown, true);
}

/// The lowest contrast of a text with its background (WCAG 2), and the text.
const CONTRAST: &str = r#"
(() => {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = channels(color).slice(0, 3).map((value) => {
      value /= 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (channels(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  let lowest = [99, ""];
  for (const element of document.querySelectorAll("main *:not(svg *)")) {
    const own = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
    if (!own) continue;
    const pair = [luminance(getComputedStyle(element).color), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, element.outerHTML.slice(0, 80)];
  }
  return lowest;
})()
"#;

#[test]
fn a_browser_shows_the_page_in_light_and_dark() {
    let entries = boot();
    let written = report(&entries, &Pcrs::after(&entries), 1);
    let Some(mut browser) = Browser::new() else { return };
    let mut pages = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        browser.load(&written.page, Scripts::Run);
        let lowest = browser.value(CONTRAST);
        assert!(lowest[0].as_f64().unwrap() >= 4.5, "{scheme}: {lowest}");
        pages.push(browser.value("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(pages[0], pages[1]);
    let narrow =
        serde_json::json!({"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", narrow);
    browser.load(&written.page, Scripts::Run);
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.value(overflow), 0, "a narrow window");
}

/// An archive of a root with a script and data, whose packages dpkg knows.
fn archive(directory: &Path) -> Option<PathBuf> {
    let root = directory.join("root");
    let files: &[(&str, &[u8])] = &[
        ("usr/bin/tool", b"#!/usr/bin/interpreter\n"),
        ("usr/share/<b>data", b"data"),
        ("var/lib/dpkg/info/tools:amd64.list", b"/.\n/usr/bin/tool\n"),
    ];
    write_tree(&root, files);
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(root.join("usr/bin/tool"), permissions).unwrap();
    let archive = directory.join("root.tar");
    let mut tar = tool("tar")?;
    let tar = tar.args(["--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(&root);
    finish(tar.arg("-cf").arg(&archive).arg(".")).exits(0);
    Some(archive)
}

#[test]
fn the_page_answers_whether_a_root_is_signed() {
    let directory = directory();
    let directory = directory.path();
    let Some(unsigned) = archive(directory) else { return };
    let keys = store(directory, "p-256");
    let signed = directory.join("signed.tar");
    run(args!["sign", "--keys", keys, "-o", signed, unsigned]).exits(0);
    let page = directory.join("report.html");
    let report = |root: &Path, code| {
        let policy = ["--policy", "default:appraise", "--no-init"];
        let words = args!["report", "--root", root, "--keys", keys, "-o", page];
        run(words.into_iter().chain(policy.map(Into::into))).exits(code);
        fs::read_to_string(&page).unwrap()
    };
    let text = report(&unsigned, 1);
    assert!(text.contains("<p class=\"word\">No</p>"), "{text}");
    assert!(text.contains("Files with a finding (1)"), "{text}");
    assert!(text.contains("IMA-signature-required"), "{text}");
    // one file of the package tools, which is not signed and so denied
    let row = between(&text, "<code dir=\"ltr\">tools</code></td>", "</tr>")[0];
    let values: Vec<_> = between(row, "data-value=\"", "\"");
    assert_eq!(values, ["1", "0", "1", "0", "1", "0", "0"], "{row}");
    let text = report(&signed, 0);
    assert!(text.contains("<p class=\"word\">Yes</p>"), "{text}");
    let row = between(&text, "<code dir=\"ltr\">/usr/share</code></td>", "</tr>")[0];
    assert_eq!(between(row, "data-value=\"", "\"")[..3], ["1", "1", "0"], "{row}");
    let inspected = run(args!["inspect", "--json", signed]).exits(0).json();
    let key_id = inspected[0]["key_id"].as_str().unwrap().to_owned();
    assert!(text.contains(&format!("<code dir=\"ltr\">{key_id}</code>")), "{key_id}");
}

#[test]
fn options_of_the_root_need_a_root() {
    let wrong = [
        &["report", "--policy", "default:appraise", "-o", "x"][..],
        &["report", "--all-root", "-o", "x"],
        &["report", "--secure-boot", "-o", "x"],
        &["report", "--kernel", "6.12", "-o", "x"],
        &["report", "--kernel-config", "config", "-o", "x"],
        &["report", "--root", "/", "-o", "x"],
    ];
    for options in wrong {
        let ran = run(options).exits(2);
        assert!(ran.stderr.contains("required"), "{options:?}: {}", ran.stderr);
    }
}
