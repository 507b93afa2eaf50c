//! PCRs next to the values that the list results in, and the reason if they differ.

use ima::attest::explain::{ExtendedBy, Judged, Verdict};
use ima_format::hex::Hex;

use crate::output::{count, Level, Output, Style};

pub(super) fn print_pcr(judged: &Judged, output: &mut Output) -> std::io::Result<()> {
    let Judged { bank, register, verdict } = judged;
    let (word, matched, padded, explanation) = match *verdict {
        Verdict::Match { reached, extended_by } => {
            ("match", reached.records, extended_by == ExtendedBy::PaddedSha1, None)
        }
        Verdict::Mismatch(explanation) => ("mismatch", 0, false, Some(explanation)),
        Verdict::NoValue(explanation) => ("no-value", 0, false, explanation),
    };
    let why = explanation.map(|explanation| explanation.to_string());
    let hex = |digest: &ima::Digest| Hex(digest.as_bytes()).to_string();
    output
        .object("pcr")
        .field("bank", bank.name())
        .field("pcr", register.pcr)
        .field("verdict", word)
        .field("expected", register.expected.as_ref().map(hex))
        .field("replayed", hex(&register.value))
        .field("entries", register.records)
        .field("matched", matched)
        .field("unverified", register.records - matched)
        .field("padded_sha1", padded)
        .optional("explanation", explanation.map(|explanation| explanation.hypothesis.word()))
        .optional("proven", explanation.map(|explanation| explanation.reached.is_some()))
        .optional("first", explanation.and_then(|explanation| explanation.hypothesis.first()))
        .optional("why", why.as_deref())
        .end()?;
    let head = output.paint(Style::Bold, &format!("{bank} PCR {}", register.pcr));
    let (style, said, rest) = words(judged);
    let level = match style {
        Style::Bad => Level::Quiet,
        _ => Level::Normal,
    };
    let line = output.paint(style, said) + &rest;
    output.line(level, format_args!("{head}: {line}"))?;
    if let (Some(expected), Verdict::Mismatch(_)) = (&register.expected, verdict) {
        output.line(level, format_args!("  value     {}", hex(expected)))?;
        output.line(level, format_args!("  replayed  {}", hex(&register.value)))?;
    }
    if let Some(why) = why {
        output.line(level, format_args!("  why       {why}"))?;
    }
    Ok(())
}

/// The verdict in words: style, verdict, details.
pub(crate) fn words(judged: &Judged) -> (Style, &'static str, String) {
    let Judged { register, verdict, .. } = judged;
    match *verdict {
        Verdict::Match { reached, extended_by } => {
            let mut rest = match register.records - reached.records {
                0 => String::new(),
                newer => {
                    let (newer, last) = (count(newer, "newer entry"), reached.index);
                    format!(" up to entry {last}; {newer} not verified")
                }
            };
            if extended_by == ExtendedBy::PaddedSha1 {
                rest += " (extended by padded SHA-1 digests, as Linux before 5.8 does)";
            }
            (Style::Good, "matches", rest)
        }
        Verdict::Mismatch(_) => (Style::Bad, "does not match", String::new()),
        Verdict::NoValue(_) => {
            (Style::Plain, "results in", format!(" {}", Hex(register.value.as_bytes())))
        }
    }
}
