//! The part of a report on a root: its signatures, and the files that would be denied.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ima::attest::manifest::Manifest;
use ima::preflight::{coverage, Answer, FileReport, Source};

use super::groups::{directory, Groups};
use super::html::{bar, number, text, Answered, Cell, Part, Table, Tone, ROWS};
use crate::cmd::preflight::{noun, unreached, why, Fate, Told};
use crate::output::count;

/// The number of files of each kind. Each file is accepted, denied, unclear or not checked.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    files: u64,
    signed: u64,
    accepted: u64,
    denied: u64,
    unclear: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.signed += other.signed;
        self.accepted += other.accepted;
        self.denied += other.denied;
        self.unclear += other.unclear;
    }
}

impl Tally {
    fn not_checked(&self) -> u64 {
        self.files - self.accepted - self.denied - self.unclear
    }

    fn cells(&self, name: Cell) -> Vec<Cell> {
        let counts = [
            self.files,
            self.signed,
            self.files - self.signed,
            self.accepted,
            self.denied,
            self.unclear,
            self.not_checked(),
        ];
        std::iter::once(name).chain(counts.map(Cell::Count)).collect()
    }
}

/// A file with a remark by the kernel.
struct Notable {
    path: Vec<u8>,
    purpose: &'static str,
    fate: Fate,
    why: String,
}

/// The results for a root.
pub(super) struct Root {
    name: Vec<u8>,
    kernel: String,
    all: Tally,
    directories: Groups<Tally>,
    packages: Groups<Tally>,
    keys: BTreeMap<String, u64>,
    notable: Vec<Notable>,
    notables: u64,
    unread: u64,
    /// Whether nothing is denied to root or users, and init is reached.
    is_good: bool,
    init: Option<Result<(), String>>,
}

/// The columns of a table of tallies.
const fn columns(of: &'static str) -> [&'static str; 8] {
    [of, "Files", "Signed", "Unsigned", "Accepted", "Denied", "Unclear", "Not checked"]
}

impl Root {
    pub(super) fn of(
        path: &Path,
        source: &dyn Source,
        told: &Told<'_>,
        manifest: &Manifest,
    ) -> Self {
        let report = told.report;
        let (covered, unread) = coverage(source);
        let by_path: HashMap<_, _> =
            report.files.iter().map(|file| (file.path.as_path(), file)).collect();
        let mut root = Self {
            name: path.as_os_str().as_bytes().to_vec(),
            kernel: told.options.kernel.version.to_string(),
            all: Tally::default(),
            directories: Groups::default(),
            packages: Groups::default(),
            keys: BTreeMap::new(),
            notable: Vec::new(),
            notables: 0,
            unread: (unread.len().max(report.unread.len())) as u64,
            is_good: report.is_good(),
            init: report.reaches_init().map(|reached| match reached {
                true => Ok(()),
                false => Err(unreached(report)),
            }),
        };
        for file in covered {
            let tally = tally(by_path.get(file.path.as_path()).copied(), file.key_id.is_some());
            let path = file.path.as_os_str().as_bytes();
            root.all += tally;
            root.directories.add(directory(path).unwrap_or(b"/"), tally);
            let listed = manifest.0.get(path).and_then(|expected| expected.packages.first());
            if let Some(package) = file.package.as_ref().or(listed) {
                root.packages.add(package.as_bytes(), tally);
            }
            if let Some(key_id) = file.key_id {
                *root.keys.entry(key_id.to_string()).or_default() += 1;
            }
        }
        let notable = |file: &&FileReport| Fate::of(file) != Fate::Allowed || file.is_finding();
        root.notables = report.files.iter().filter(notable).count() as u64;
        let mut notable: Vec<_> = report.files.iter().filter(notable).collect();
        // denials first
        notable.sort_by_key(|file| !is_denied(Fate::of(file)));
        root.notable.extend(notable.into_iter().take(ROWS).map(|file| Notable {
            path: file.path.as_os_str().as_bytes().to_vec(),
            purpose: noun(file.purpose),
            fate: Fate::of(file),
            why: why(file, told),
        }));
        root
    }

    /// Whether it is protected.
    pub(super) fn answer(&self) -> Answered {
        let Tally { files, accepted, denied, unclear, .. } = self.all;
        let checked = accepted + denied + unclear;
        let question = "Is everything signed that the kernel checks?";
        let (tone, word) = match (self.is_good, self.unread, checked) {
            (false, ..) => (Tone::Bad, "No"),
            (true, 1.., _) => (Tone::Doubtful, "Not known"),
            (true, 0, 0) => (Tone::Doubtful, "Nothing is checked"),
            (true, 0, _) => (Tone::Good, "Yes"),
        };
        let mut said = match (denied, checked) {
            (_, 0) => format!("The policy checks none of the {}.", count(files, "file")),
            (0, _) => format!(
                "Linux {} would check {} of {}, and deny none of them to root.",
                self.kernel,
                number(checked),
                count(files, "file")
            ),
            _ => format!(
                "Linux {} would check {} of {}, and deny {}.",
                self.kernel,
                number(checked),
                count(files, "file"),
                number(denied)
            ),
        };
        match &self.init {
            Some(Ok(())) => said += " The machine reaches its init.",
            Some(Err(why)) => said += &format!(" The machine does not reach its init: {why}."),
            None => {}
        }
        if self.unread > 0 {
            said += &format!(" {} could not be read.", count(self.unread, "file"));
        }
        Answered { question, tone, word, said }
    }

    /// The numbers at the top.
    pub(super) fn figures(&self) -> Vec<(u64, &'static str)> {
        vec![
            (self.all.files, "files in the root"),
            (self.all.signed, "with a signature"),
            (self.all.denied, "would be denied"),
        ]
    }

    pub(super) fn write(&self, page: &mut String) {
        *page += "<section aria-labelledby=\"coverage\">\n<h2 id=\"coverage\">Coverage of the root</h2>\n";
        *page += &format!("<p class=\"lead\"><code dir=\"ltr\">{}</code></p>\n", text(&self.name));
        let Tally { accepted, denied, unclear, .. } = self.all;
        let part = |tone, label, count| Part { tone, label, count };
        let parts = [
            part(Tone::Good, "checked and accepted", accepted),
            part(Tone::Bad, "would be denied", denied),
            part(Tone::Doubtful, "unclear", unclear),
            part(Tone::Neutral, "not checked by the policy", self.all.not_checked()),
        ];
        bar("What the kernel would do with the files of the root", &parts, page);
        self.notable(page);
        const DIRECTORIES: &[&str] = &columns("Directory");
        const PACKAGES: &[&str] = &columns("Package");
        tallies("By directory", DIRECTORIES, &self.directories, page);
        tallies("By package", PACKAGES, &self.packages, page);
        let keys = self.keys.iter();
        Table {
            title: "Keys that made the signatures".into(),
            note: Some("As the signatures name them; whether they hold is in the verdicts.".into()),
            columns: &["Key ID", "Files"],
            rows: keys
                .take(ROWS)
                .map(|(key, files)| vec![Cell::Code(key.clone().into()), Cell::Number(*files)])
                .collect(),
        }
        .write(page);
        *page += "</section>\n";
    }

    fn notable(&self, page: &mut String) {
        let rows = self.notable.iter().map(|Notable { path, purpose, fate, why }| {
            let tone = if is_denied(*fate) { Tone::Bad } else { Tone::Doubtful };
            vec![
                Cell::Code(path.clone()),
                Cell::Text((*purpose).into()),
                Cell::Word(tone, fate.name().into()),
                Cell::Text(why.clone()),
            ]
        });
        Table {
            title: format!("Files with a finding ({})", number(self.notables)),
            note: (self.notables > ROWS as u64).then(|| {
                format!(
                    "The first {} of {}; imactl preflight --details prints all.",
                    number(ROWS as u64),
                    number(self.notables)
                )
            }),
            columns: &["Path", "Use", "Result", "Reason"],
            rows: rows.collect(),
        }
        .write(page);
    }
}

fn is_denied(fate: Fate) -> bool {
    matches!(fate, Fate::Denied | Fate::Blocked)
}

fn tally(file: Option<&FileReport>, is_signed: bool) -> Tally {
    let mut tally = Tally { files: 1, signed: u64::from(is_signed), ..Tally::default() };
    // the report leaves out data that no rule appraises
    let Some(file) = file else { return tally };
    match (Fate::of(file), &file.answer) {
        (Fate::Denied | Fate::Blocked, _) => tally.denied = 1,
        (Fate::Unknown | Fate::Incomplete, _) => tally.unclear = 1,
        (Fate::Allowed, Answer::Allowed { appraised: true }) => tally.accepted = 1,
        (Fate::Allowed, _) => {}
    }
    tally
}

/// The groups, those with denied files first.
fn tallies(
    title: &str,
    columns: &'static [&'static str],
    groups: &Groups<Tally>,
    page: &mut String,
) {
    let mut named: Vec<_> = groups.named.iter().collect();
    named.sort_by(|(one, a), (other, b)| {
        (b.denied, b.files).cmp(&(a.denied, a.files)).then_with(|| one.cmp(other))
    });
    let mut rest = groups.others;
    named.iter().skip(ROWS).for_each(|(_, tally)| rest += **tally);
    let mut rows: Vec<_> = named
        .iter()
        .take(ROWS)
        .map(|(name, tally)| tally.cells(Cell::Code(name.to_vec())))
        .collect();
    if rest.files > 0 {
        rows.push(rest.cells(Cell::Text("all others".into())));
    }
    let title = format!("{title} ({})", number(named.len() as u64));
    Table { title, note: None, columns, rows }.write(page);
}
