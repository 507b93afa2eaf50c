//! Completions, where each shell looks for them.

use clap_complete::{generate, Generator, Shell};

use crate::File;

pub(crate) fn all() -> Vec<File> {
    vec![
        ("bash-completion/completions/imactl".into(), completion(Shell::Bash)),
        ("zsh/site-functions/_imactl".into(), completion(Shell::Zsh)),
        ("fish/vendor_completions.d/imactl.fish".into(), completion(Shell::Fish)),
    ]
}

fn completion(shell: impl Generator) -> Vec<u8> {
    let mut script = Vec::new();
    generate(shell, &mut imactl::command(), "imactl", &mut script);
    script
}
