//! The commands in the help of the program, grouped by task.

use clap::builder::StyledStr;
use clap::Command;

/// The tasks in the order of a first use, and their commands.
const GROUPS: &[(&str, &[&str])] = &[
    ("Keys and signatures", &["keys", "sign", "verify", "inspect", "clear", "digest", "revoke"]),
    ("Policies and booting", &["policy", "preflight", "initramfs"]),
    ("The running machine", &["status", "why"]),
    ("Measurements", &["log", "manifest", "report"]),
    ("Compatibility", &["evmctl"]),
];

/// Lists the commands by group; clap would list them all under one heading.
pub(crate) fn list(program: Command) -> Command {
    let (header, literal) =
        (*program.get_styles().get_header(), *program.get_styles().get_literal());
    let names = GROUPS.iter().flat_map(|(_, names)| *names);
    let width = names.map(|name| name.len()).max().unwrap_or(0);
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n\n");
    for (title, names) in GROUPS {
        text += &format!("{header}{title}:{header:#}\n");
        for command in names.iter().filter_map(|name| program.find_subcommand(name)) {
            let about = command.get_about().map(StyledStr::to_string).unwrap_or_default();
            let name = command.get_name();
            text += &format!("  {literal}{name:width$}{literal:#}  {about}\n");
        }
        text.push('\n');
    }
    text += "imactl help COMMAND shows the options of a command.\n\n";
    program.help_template(text + &format!("{header}Options:{header:#}\n{{options}}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let program = crate::Cli::command();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut commands: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
        grouped.sort_unstable();
        commands.sort_unstable();
        assert_eq!(grouped, commands);
    }
}
