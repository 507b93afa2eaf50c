//! Which options apply to which kinds of containers: for the help, and for errors.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use ima_format::kind::Kind;

use crate::error::hinted;

/// The commands whose options depend on the kind.
const COMMANDS: [&str; 4] = ["sign", "verify", "inspect", "clear"];

const TREE: &[Kind] = &[Kind::Tree];
const PACKAGES: &[Kind] = &[Kind::Rpm];
const ARCHIVES: &[Kind] = &[Kind::Tar];
const IMAGES: &[Kind] = &[Kind::Image];
const ARCHIVED: &[Kind] = &[Kind::Tar, Kind::Oci];
const STREAMS: &[Kind] = &[Kind::Tar, Kind::Image, Kind::Oci];
const NOT_PACKAGES: &[Kind] = &[Kind::Tree, Kind::Tar, Kind::Image, Kind::Oci];
const ALL: &[Kind] = &Kind::ALL;

/// An option, the kinds that it applies to, and the advice for others.
struct Row(&'static str, &'static [Kind], &'static str);

const LEAVE_OUT: &str = "leave it out";
const SECURITY: &str = "leave it out: these have only security.ima";

const RPM_EVM: &str =
    "RPM headers have no place for security.evm: sign the image or tree that is built from them";

const ROWS: &[Row] = &[
    Row("include", ALL, LEAVE_OUT),
    Row("exclude", ALL, LEAVE_OUT),
    Row("one_file_system", &[Kind::Tree, Kind::Rpm], LEAVE_OUT),
    Row("only", NOT_PACKAGES, LEAVE_OUT),
    Row("jobs", ALL, LEAVE_OUT),
    Row("files_from", ALL, LEAVE_OUT),
    Row("null", ALL, LEAVE_OUT),
    Row("kind", ALL, LEAVE_OUT),
    Row("recursive", PACKAGES, "directories of a tree are processed without it"),
    Row("max_sparse", STREAMS, LEAVE_OUT),
    Row("partition", IMAGES, LEAVE_OUT),
    Row("concatenated", ARCHIVES, LEAVE_OUT),
    Row("keys", ALL, LEAVE_OUT),
    Row("key", ALL, LEAVE_OUT),
    Row("cert", ALL, LEAVE_OUT),
    Row("keyid", ALL, LEAVE_OUT),
    Row("passphrase_file", ALL, LEAVE_OUT),
    Row("passphrase_env", ALL, LEAVE_OUT),
    Row("passphrase_fd", ALL, LEAVE_OUT),
    Row("hash", NOT_PACKAGES, "the digests that the package lists are signed: leave it out"),
    Row("appended", TREE, "sign the files before they are packed"),
    Row("signature_version", ALL, LEAVE_OUT),
    Row("for_kernel", ALL, LEAVE_OUT),
    Row("digest", NOT_PACKAGES, "packages list digests of the content: leave it out"),
    Row("verity_salt", NOT_PACKAGES, LEAVE_OUT),
    Row("enable_verity", TREE, "an image builder enables fs-verity: leave it out"),
    Row("hash_only", NOT_PACKAGES, LEAVE_OUT),
    Row("evm", NOT_PACKAGES, RPM_EVM),
    Row("evm_only", NOT_PACKAGES, RPM_EVM),
    Row("evm_type", NOT_PACKAGES, RPM_EVM),
    Row("evm_key", NOT_PACKAGES, RPM_EVM),
    Row("evm_cert", NOT_PACKAGES, RPM_EVM),
    Row("hmac_key", NOT_PACKAGES, RPM_EVM),
    Row("selinux_contexts", NOT_PACKAGES, RPM_EVM),
    Row("allow_unlabeled", NOT_PACKAGES, RPM_EVM),
    Row("capabilities", NOT_PACKAGES, RPM_EVM),
    Row("evm_sigv3", NOT_PACKAGES, RPM_EVM),
    Row("evm_xattr", NOT_PACKAGES, RPM_EVM),
    Row("owner", NOT_PACKAGES, RPM_EVM),
    Row("fsuuid", NOT_PACKAGES, RPM_EVM),
    Row("word_size", NOT_PACKAGES, RPM_EVM),
    Row("cache", ALL, LEAVE_OUT),
    Row("changed", ALL, LEAVE_OUT),
    Row("dry_run", ALL, LEAVE_OUT),
    Row("xattr_namespace", TREE, SECURITY),
    Row("detached", TREE, SECURITY),
    Row("require", NOT_PACKAGES, LEAVE_OUT),
    Row("kernel", ALL, LEAVE_OUT),
    Row("kernel_config", ALL, LEAVE_OUT),
    Row("allow_empty", ALL, LEAVE_OUT),
    Row("raw", ALL, LEAVE_OUT),
    Row(
        "output",
        STREAMS,
        "--output-dir DIR writes packages into a directory; files of a tree are changed in place",
    ),
    Row("compress", ARCHIVED, LEAVE_OUT),
    Row("output_dir", PACKAGES, "-o FILE is for archives and images"),
    Row("reserved_space", PACKAGES, LEAVE_OUT),
    Row("allow_weak_digests", PACKAGES, LEAVE_OUT),
    Row("trust_header", PACKAGES, LEAVE_OUT),
    Row("force", PACKAGES, LEAVE_OUT),
    Row("payload", PACKAGES, LEAVE_OUT),
];

fn row(id: &str) -> Option<&'static Row> {
    ROWS.iter().find(|Row(option, ..)| *option == id)
}

fn listed(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.several()).collect::<Vec<_>>().join(", ")
}

/// The options that were given, by their names in [`ROWS`].
#[derive(Debug, Default)]
pub(crate) struct Given(Vec<(&'static Row, String)>);

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Given {
    /// The options of a command that the command line gives; defaults do not count.
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let rows = matches.ids().map(clap::Id::as_str).filter_map(row);
        let given = rows.filter(|Row(id, ..)| is_given(id));
        Self(given.map(|row| (row, format!("--{}", row.0.replace('_', "-")))).collect())
    }

    /// Returns an error for the first option that does not apply to a kind.
    pub(crate) fn check(&self, kind: Kind) -> crate::error::Result<()> {
        match self.0.iter().find(|(Row(_, kinds, _), _)| !kinds.contains(&kind)) {
            Some((Row(_, kinds, hint), name)) => {
                let message = format!("{name} applies only to {}, not to {kind}", listed(kinds));
                Err(hinted(message, hint))
            }
            None => Ok(()),
        }
    }
}

/// Appends the kinds that an option applies to to its help, unless it applies to all.
pub(crate) fn annotate(mut program: Command) -> Command {
    for name in COMMANDS {
        program = program.mut_subcommand(name, |mut command| {
            for Row(id, kinds, _) in ROWS {
                let known = command.get_arguments().find(|argument| argument.get_id() == id);
                let Some(help) = known.and_then(|argument| argument.get_help()) else { continue };
                if kinds.len() < ALL.len() {
                    let help = format!("{help} [{}]", listed(kinds));
                    command = command.mut_arg(id, |argument| argument.help(help));
                }
            }
            command
        });
    }
    program
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_option_is_listed() {
        let program = crate::Cli::command();
        let mut seen = Vec::new();
        for name in COMMANDS {
            let command = program.find_subcommand(name).unwrap();
            for argument in command.get_arguments().filter(|it| !it.is_positional()) {
                let id = argument.get_id().as_str();
                assert!(row(id).is_some(), "{name}: {id}");
                seen.push(id);
            }
        }
        for Row(id, ..) in ROWS {
            assert!(seen.contains(id), "no command has {id}");
        }
    }

    #[test]
    fn the_help_says_what_an_option_applies_to() {
        let mut program = annotate(crate::Cli::command());
        let help = program.find_subcommand_mut("sign").unwrap().render_long_help().to_string();
        assert!(
            help.contains("[packages]") && help.contains("[archives, images, container images]"),
            "{help}"
        );
    }
}
