//! The page's part on a measurement list.

use ima::attest::check::{BootEvent, FindingKind};
use ima::attest::explain::Verdict;
use ima::attest::timeline::{Event, EventKind};
use ima::attest::verify::Origin;
use ima_format::hex::Hex;

use super::html::{bar, code, number, text, Answered, Cell, Part, Table, Tone, ROWS};
use super::list::{List, Row, Tally};
use crate::cmd::log::words;
use crate::output::{count, Style};

impl List {
    /// Whether it agrees with the PCRs.
    pub(super) fn answer(&self) -> Answered {
        let question = "Does the measurement list agree with the TPM?";
        let compared = self.judged.iter().filter(|it| !matches!(it.verdict, Verdict::NoValue(_)));
        let mut said: Vec<_> = compared
            .map(|judged| {
                let (_, verdict, rest) = words(judged);
                format!("{} PCR {} {verdict}{rest}.", judged.bank, judged.register.pcr)
            })
            .collect();
        match &self.quote {
            Some(quote) if quote.faults.is_empty() => {
                said.push("The values are signed by the key of the quote.".into());
            }
            Some(quote) => {
                said.extend(quote.faults.iter().map(|fault| format!("The quote: {fault}.")));
            }
            None if said.is_empty() => said.push("No value of a PCR was given.".into()),
            None => {
                said.push("The values are not quoted: trust them as far as their source.".into())
            }
        }
        if self.fault.is_some() {
            said.push("The list could not be read to its end.".into());
        }
        if self.counts.malformed > 0 {
            said.push(format!("{} changed or malformed.", count(self.counts.malformed, "entry")));
        }
        let (tone, word) = match self.agrees() {
            Some(true) => (Tone::Good, "Yes"),
            Some(false) => (Tone::Bad, "No"),
            None => (Tone::Doubtful, "Not known"),
        };
        Answered { question, tone, word, said: said.join(" ") }
    }

    /// The numbers at the top.
    pub(super) fn figures(&self) -> Vec<(u64, &'static str)> {
        let bad = self.findings_in_all();
        vec![
            (self.counts.records, "entries in the list"),
            (self.counts.violations, "violations"),
            (bad - self.counts.violations, "other findings"),
        ]
    }

    fn findings_in_all(&self) -> u64 {
        let is_bad = |(word, _): &(&&str, &u64)| **word != "unverifiable-signature";
        self.found.iter().filter(is_bad).map(|(_, count)| count).sum()
    }

    pub(super) fn write(&self, page: &mut String) {
        *page += "<section aria-labelledby=\"agreement\">\n<h2 id=\"agreement\">List and PCRs</h2>\n<p class=\"lead\">";
        *page += &self.names.iter().map(code).collect::<Vec<_>>().join(" ");
        *page += "</p>\n";
        if let Some(fault) = &self.fault {
            *page += &format!("<p class=\"alert\">{}</p>\n", text(fault));
        }
        self.registers(page);
        self.boot(page);
        *page += "</section>\n<section aria-labelledby=\"findings\">\n<h2 id=\"findings\">Findings</h2>\n";
        self.findings(page);
        *page += "</section>\n<section aria-labelledby=\"timeline\">\n<h2 id=\"timeline\">Timeline</h2>\n";
        self.timeline(page);
        *page += "</section>\n";
    }

    /// Prints each PCR, and the reason if it differs.
    fn registers(&self, page: &mut String) {
        let rows = self.judged.iter().map(|judged| {
            let (style, verdict, rest) = words(judged);
            let tone = match style {
                Style::Good => Tone::Good,
                Style::Bad => Tone::Bad,
                _ => Tone::Doubtful,
            };
            let why = match judged.verdict {
                Verdict::Mismatch(explanation) | Verdict::NoValue(Some(explanation)) => {
                    explanation.to_string()
                }
                _ => String::new(),
            };
            let verdict = match judged.verdict {
                Verdict::NoValue(_) => "no value".to_owned(),
                _ => verdict.to_owned() + &rest,
            };
            let expected = judged.register.expected.as_ref();
            let expected = expected.map(|value| Hex(value.as_bytes()).to_string());
            vec![
                Cell::Text(format!("{}\u{a0}{}", judged.bank, judged.register.pcr)),
                Cell::Word(tone, verdict),
                Cell::Text(why),
                Cell::Number(judged.register.records),
                Cell::Code(expected.unwrap_or_default().into()),
                Cell::Code(Hex(judged.register.value.as_bytes()).to_string().into()),
            ]
        });
        Table {
            title: "PCRs next to the list".into(),
            note: None,
            columns: &["PCR", "Verdict", "Why", "Entries", "Value", "Result of the list"],
            rows: rows.collect(),
        }
        .write(page);
    }

    /// Prints the measurements made before the list began.
    fn boot(&self, page: &mut String) {
        let verdict = |good| match good {
            true => Cell::Word(Tone::Good, "matches".into()),
            false => Cell::Word(Tone::Bad, "does not match".into()),
        };
        let mut rows: Vec<_> = self
            .firmware
            .iter()
            .map(|(expected, replayed)| {
                let bank = replayed.algorithm();
                vec![
                    Cell::Text(format!("{bank} PCR {} and the firmware's event log", expected.pcr)),
                    verdict(expected.value == *replayed),
                ]
            })
            .collect();
        rows.extend(self.aggregates.iter().map(|aggregate| {
            let with = match aggregate.origin {
                Origin::Pcrs => "the PCRs",
                Origin::EventLog => "the firmware's event log",
            };
            let cell = match (aggregate.listed, aggregate.matches()) {
                (None, _) => Cell::Word(Tone::Doubtful, "zeros: the kernel found no TPM".into()),
                (_, None) => {
                    let said = "not compared: needs the values of PCRs 0 to 9, or --event-log";
                    Cell::Word(Tone::Doubtful, said.into())
                }
                (_, Some(good)) => verdict(good),
            };
            let index = aggregate.index;
            vec![Cell::Text(format!("boot_aggregate (entry {index}) and {with}")), cell]
        }));
        Table {
            title: "Before the list".into(),
            note: None,
            columns: &["Compared", "Verdict"],
            rows,
        }
        .write(page);
    }

    fn findings(&self, page: &mut String) {
        let all = self.findings_in_all();
        if all == 0 {
            *page += "<p>No violation, and no entry that was changed.";
        } else {
            *page += &format!("<p>{}.", text(count(all, "finding")));
        }
        match self.has_keys {
            true => {
                *page += &format!(
                    " Signatures: {} valid, {} invalid, {} by unknown keys, {} not verifiable.</p>\n",
                    number(self.counts.valid),
                    number(self.counts.invalid),
                    number(self.counts.unknown),
                    number(self.counts.unverifiable)
                );
            }
            false => *page += " Signatures were not verified: no certificate was given.</p>\n",
        }
        let rows = self.findings.iter().map(|finding| {
            let tone = match finding.kind {
                FindingKind::Violation => Tone::Doubtful,
                _ => Tone::Bad,
            };
            vec![
                Cell::Number(finding.index),
                Cell::Code(finding.name.clone()),
                Cell::Word(tone, finding.kind.word().into()),
                Cell::Text(finding.kind.to_string()),
            ]
        });
        Table {
            title: format!("Violations and other findings ({})", number(all)),
            note: left_out(all, "imactl log verify --json"),
            columns: &["Entry", "Name", "Finding", "Explanation"],
            rows: rows.collect(),
        }
        .write(page);
    }

    fn timeline(&self, page: &mut String) {
        let Tally { entries, bad, good, .. } = self.all();
        let is_start = |event: &BootEvent| matches!(event, BootEvent::BootAggregate(_));
        let starts = self.boots.iter().filter(|(_, event)| is_start(event));
        let starts: Vec<_> = starts.map(|(index, _)| *index).collect();
        self.strip.write(&starts, page);
        let part = |tone, label, count| Part { tone, label, count };
        let parts = [
            part(Tone::Good, "with a signature", good),
            part(Tone::Neutral, "without", entries - bad - good),
            part(Tone::Bad, "with a finding", bad),
        ];
        bar("The entries of the list", &parts, page);
        let rows = self.boots.iter().map(|(index, event)| {
            let said = match event {
                BootEvent::BootAggregate(_) => "a kernel started (boot_aggregate)",
                BootEvent::KexecLoad => "the next kernel was loaded (kexec_load)",
                BootEvent::KexecExecute => "the next kernel was started (kexec_execute)",
            };
            vec![Cell::Number(*index), Cell::Text(said.into())]
        });
        Table {
            title: "Kernels".into(),
            note: None,
            columns: &["Entry", "Event"],
            rows: rows.take(ROWS).collect(),
        }
        .write(page);
        match &self.timeline {
            Some(timeline) => {
                let title =
                    format!("Files that went back to an earlier digest ({})", timeline.backs);
                let command = "imactl log timeline --json";
                events(&title, &timeline.back, left_out(timeline.backs, command), page);
                let title = format!("Events, with the audit log ({})", number(timeline.all));
                events(&title, &timeline.shown, left_out(timeline.all, command), page);
            }
            None => self.entries(page),
        }
        self.directories(page);
    }

    fn entries(&self, page: &mut String) {
        let rows = self.first.iter().map(|row| {
            let Row { index, pcr, template, name, digest, signed } = row;
            let digest = match digest {
                Some(digest) => Cell::Code(digest.clone().into()),
                None => Cell::Text("–".into()),
            };
            vec![
                Cell::Number(*index),
                Cell::Number(u64::from(*pcr)),
                Cell::Code(template.clone()),
                Cell::Code(name.clone()),
                Cell::Code(signed.clone().unwrap_or_default().into()),
                digest,
            ]
        });
        Table {
            title: format!("Entries ({})", number(self.counts.records)),
            note: left_out(self.counts.records, "imactl log show --json"),
            columns: &["Entry", "PCR", "Template", "Name", "Signed by", "Digest"],
            rows: rows.collect(),
        }
        .write(page);
    }

    fn directories(&self, page: &mut String) {
        let mut named: Vec<_> = self.directories.named.iter().collect();
        named.sort_by(|(one, a), (other, b)| {
            (b.bad, b.entries).cmp(&(a.bad, a.entries)).then_with(|| one.cmp(other))
        });
        let row = |name, Tally { entries, signed, bad, .. }: Tally| {
            let counts = [entries, signed, entries - signed, bad].map(Cell::Count);
            std::iter::once(name).chain(counts).collect::<Vec<_>>()
        };
        let mut rest = self.directories.others;
        named.iter().skip(ROWS).for_each(|(_, tally)| rest += **tally);
        let shown = named.iter().take(ROWS);
        let mut rows: Vec<_> =
            shown.map(|(name, tally)| row(Cell::Code(name.to_vec()), **tally)).collect();
        for (name, tally) in [("events", self.events), ("all others", rest)] {
            if tally.entries > 0 {
                rows.push(row(Cell::Text(name.into()), tally));
            }
        }
        Table {
            title: format!("Entries by directory ({})", number(named.len() as u64)),
            note: None,
            columns: &["Directory", "Entries", "Signed", "Unsigned", "Findings"],
            rows,
        }
        .write(page);
    }

    /// The sum over all entries that were read.
    fn all(&self) -> Tally {
        let mut all = self.events;
        all += self.directories.others;
        self.directories.named.values().for_each(|tally| all += *tally);
        all
    }
}

/// The note of a table that has only the first rows: which command prints all.
fn left_out(all: u64, command: &str) -> Option<String> {
    let shown = ROWS as u64;
    (all > shown)
        .then(|| format!("The first {} of {}; {command} prints all.", number(shown), number(all)))
}

fn events(title: &str, events: &[Event], note: Option<String>, page: &mut String) {
    let rows = events.iter().map(|event| {
        let (tone, word) = match event.kind {
            EventKind::Measured => (Tone::Neutral, "measured"),
            EventKind::Again => (Tone::Neutral, "again"),
            EventKind::Back => (Tone::Bad, "back"),
            EventKind::NotListed => (Tone::Doubtful, "not listed"),
        };
        let audited = event.audited.as_ref();
        let command = audited.and_then(|audited| audited.command.clone());
        vec![
            Cell::Text(audited.map(|audited| audited.time.clone()).unwrap_or_default()),
            event.index.map_or(Cell::Text(String::new()), Cell::Number),
            Cell::Word(tone, word.into()),
            Cell::Code(event.name.clone()),
            Cell::Code(command.unwrap_or_default().into()),
            Cell::Code(event.digest.clone().unwrap_or_else(|| "violation".into()).into()),
        ]
    });
    let columns = &["Time", "Entry", "Event", "Name", "Command", "Digest"];
    Table { title: title.to_owned(), note, columns, rows: rows.collect() }.write(page);
}
