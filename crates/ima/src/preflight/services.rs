//! The programs that init starts first: `inittab(5)` of sysvinit and busybox, the units of systemd.
//!
//! Of systemd's units those are followed that `default.target` pulls in by `.wants` and
//! `.requires` directories, `Wants=`, `Requires=` and `BindsTo=`; conditions, sockets, timers
//! and generated units are not looked at. Programs that a script starts in turn are unknown.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::paths::Paths;

/// A program, and who asks for it.
pub(super) type Asked = (String, Vec<u8>);

/// Gives the content of a small file of the root.
type Text<'a> = dyn FnMut(&Path) -> Option<Vec<u8>> + 'a;

/// The programs that this init starts.
pub(super) fn started_by(init: &Path, paths: &Paths, text: &mut Text<'_>) -> Vec<Asked> {
    let name = init.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name == "systemd" {
        return of_systemd(paths, text);
    }
    match text(Path::new("/etc/inittab")) {
        Some(inittab) => of_inittab(&inittab),
        None if name == "busybox" => ["/etc/init.d/rcS", "/bin/sh"]
            .map(|program| ("busybox init".to_owned(), program.as_bytes().to_vec()))
            .into_iter()
            .filter(|(_, program)| paths.file(&super::purpose::path_of(program)).is_some())
            .collect(),
        None => Vec::new(),
    }
}

/// `id:runlevels:action:process`
fn of_inittab(text: &[u8]) -> Vec<Asked> {
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !trim_start(line).starts_with(b"#"));
    let mut asked = Vec::new();
    for line in lines {
        let mut fields = line.splitn(4, |byte| *byte == b':');
        let (_, _, action, process) = (fields.next(), fields.next(), fields.next(), fields.next());
        let (Some(action), Some(process)) = (action, process) else { continue };
        if matches!(action, b"off" | b"initdefault" | b"ctrlaltdel" | b"shutdown" | b"powerfail") {
            continue;
        }
        // busybox: a login shell; sysvinit: without utmp records
        let process = trim_start(process);
        let process = process.strip_prefix(b"-").or(process.strip_prefix(b"+")).unwrap_or(process);
        let program = process.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if !program.is_empty() {
            asked.push(("/etc/inittab".to_owned(), program.to_vec()));
        }
    }
    asked
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace());
    start.map_or(&[], |start| &text[start..])
}

const UNIT_DIRECTORIES: [&str; 3] =
    ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const GENERATORS: [&str; 2] =
    ["/usr/lib/systemd/system-generators", "/lib/systemd/system-generators"];
const EXECUTOR: &str = "/usr/lib/systemd/systemd-executor";

fn of_systemd(paths: &Paths, text: &mut Text<'_>) -> Vec<Asked> {
    let mut asked = Vec::new();
    if paths.file(Path::new(EXECUTOR)).is_some() {
        asked.push(("systemd".to_owned(), EXECUTOR.as_bytes().to_vec()));
    }
    let generators = GENERATORS.iter().map(|directory| paths.children(Path::new(directory)));
    if let Some(generators) = generators.into_iter().find(|children| !children.is_empty()) {
        use std::os::unix::ffi::OsStrExt;
        let path = |number: &usize| paths.get(*number).path.as_os_str().as_bytes().to_vec();
        asked.extend(generators.iter().map(|number| ("systemd".to_owned(), path(number))));
    }
    let mut seen = HashSet::new();
    let mut waiting = vec!["default.target".to_owned()];
    while let Some(unit) = waiting.pop() {
        if !seen.insert(unit.clone()) {
            continue;
        }
        let mut wanted = Vec::new();
        for kind in ["wants", "requires"] {
            for directory in UNIT_DIRECTORIES {
                let directory = Path::new(directory).join(format!("{unit}.{kind}"));
                let names = paths.children(&directory).iter().map(|number| paths.get(*number));
                wanted
                    .extend(names.map(|entry| String::from_utf8_lossy(entry.name()).into_owned()));
            }
        }
        if let Some(content) = unit_file(&unit, paths).and_then(|path| text(&path)) {
            read_unit(&unit, &content, &mut wanted, &mut asked);
        }
        waiting.extend(wanted);
    }
    asked
}

/// The file of a unit; that of `getty@tty1.service` is `getty@.service`.
fn unit_file(unit: &str, paths: &Paths) -> Option<PathBuf> {
    let template = unit.split_once('@').and_then(|(name, rest)| {
        let (_, kind) = rest.rsplit_once('.')?;
        Some(format!("{name}@.{kind}"))
    });
    [Some(unit.to_owned()), template].into_iter().flatten().find_map(|name| {
        let mut directories = UNIT_DIRECTORIES.iter().map(Path::new);
        directories.find_map(|directory| {
            let path = directory.join(&name);
            paths.file(&path).map(|_| path)
        })
    })
}

fn read_unit(unit: &str, content: &[u8], wanted: &mut Vec<String>, asked: &mut Vec<Asked>) {
    let content = String::from_utf8_lossy(content).replace("\\\n", " ");
    for line in content.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key.trim() {
            "Wants" | "Requires" | "BindsTo" => {
                wanted.extend(value.split_whitespace().map(str::to_owned));
            }
            "ExecStartPre" | "ExecStart" | "ExecStartPost" => {
                // prefixes of systemd.service(5); commands whose failure is ignored are left out
                let command = value.trim();
                let program = command.trim_start_matches(['@', '-', ':', '+', '!', '|']);
                let optional = command[..command.len() - program.len()].contains('-');
                let program = program.split_whitespace().next().unwrap_or_default();
                let specifier = program.contains('%') || program.contains('$');
                if !program.is_empty() && !optional && !specifier {
                    asked.push((unit.to_owned(), program.as_bytes().to_vec()));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(asked: Vec<Asked>) -> Vec<String> {
        let programs = asked.into_iter().map(|(_, program)| String::from_utf8(program).unwrap());
        programs.collect()
    }

    #[test]
    fn an_inittab_names_programs() {
        let text = b"# comment\n::sysinit:/etc/init.d/rcS\nid:5:initdefault:\n\
                     tty1::respawn:-/bin/sh -l\nsi::wait:+/sbin/x y\nbroken\n";
        assert_eq!(programs(of_inittab(text)), ["/etc/init.d/rcS", "/bin/sh", "/sbin/x"]);
    }

    #[test]
    fn a_unit_names_programs_and_units() {
        let (mut wanted, mut asked) = (Vec::new(), Vec::new());
        let text = b"[Unit]\nWants=a.service \\\n  b.socket\n[Service]\nExecStartPre=-/bin/may\n\
                     ExecStart=!!/usr/bin/daemon --x\nExecStart=\nExecStartPost=/opt/%i\n";
        read_unit("x.service", text, &mut wanted, &mut asked);
        assert_eq!(wanted, ["a.service", "b.socket"]);
        assert_eq!(programs(asked), ["/usr/bin/daemon"]);
    }
}
