//! `imactl policy explain`

use std::path::PathBuf;

use clap::Args;
use ima_format::policy::explain;

use super::source::BootArgs;
use crate::error::Result;
use crate::kernel::{warn_of_hearsay, KernelArgs};
use crate::output::{Level, Output, Style};
use crate::Outcome;

/// Explain a policy in plain words: each rule, and the whole
///
/// Several policies are treated as loaded one after the other: the kernel tries the rules of the
/// first, then those of the next.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The policies, in the order of loading
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    kernel: KernelArgs,
    #[command(flatten)]
    boot: BootArgs,
}

impl ExplainArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let kernel = self.kernel.resolve()?;
        warn_of_hearsay(kernel.version, output);
        let loaded = self.boot.load(&self.files, &kernel)?;
        let explanation = explain(&loaded.policy, &kernel);
        for (number, rule) in explanation.rules.iter().enumerate() {
            let place = loaded.file_and_line(number);
            output
                .object("rule")
                .field("file", place.map(|(file, _)| file))
                .field("line", place.map(|(_, line)| line))
                .field("rule", &rule.rule)
                .field("meaning", &rule.meaning)
                .end()?;
            let place = output.paint(Style::Dim, &format!("{}:", loaded.place(number)));
            output.line(Level::Normal, format_args!("{place} {}", rule.rule))?;
            output.line(Level::Normal, format_args!("    {}", rule.meaning))?;
            output.line(Level::Normal, "")?;
        }
        for topic in &explanation.whole {
            let (title, statements) = (topic.title, &topic.statements);
            output.object("topic").field("title", title).field("statements", statements).end()?;
            let title = output.paint(Style::Bold, title);
            output.line(Level::Normal, format_args!("{title}:"))?;
            for statement in statements {
                output.line(Level::Normal, format_args!("  - {statement}"))?;
            }
        }
        Ok(Outcome::Good)
    }
}
