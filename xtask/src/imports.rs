//! Files of a crate do not import each other in a circle: each can be read after those that it imports.
//!
//! A module may use items of those around it (`super::`), which declare it; these imports do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use crate::{output, root};

/// The path of a module in its crate.
type Module = Vec<String>;

pub(crate) fn check() -> Result<()> {
    for package in ["imactl", "ima", "ima-format", "imactl-init", "imactl-manual"] {
        let source = format!("crates/{package}/src");
        let mut list = Command::new("git");
        list.args(["ls-files", "*.rs"]).current_dir(root().join(&source));
        let names = String::from_utf8(output(&mut list)?).context("git ls-files")?;
        let mut modules = BTreeMap::new();
        for file in names.lines().filter(|file| *file != "main.rs") {
            let name = file.strip_suffix(".rs").unwrap_or(file);
            let mut module: Module = name.split('/').map(String::from).collect();
            if module.last().is_some_and(|last| last == "mod" || last == "lib") {
                module.pop();
            }
            let path = root().join(&source).join(file);
            let text = std::fs::read_to_string(path).with_context(|| file.to_owned())?;
            modules.insert(module, text);
        }
        let known: BTreeSet<_> = modules.keys().cloned().collect();
        let mut imports = BTreeMap::new();
        for (module, text) in &modules {
            imports.insert(module.clone(), imported(module, text, &known));
        }
        let circles = circles(imports);
        ensure!(circles.is_empty(), "{source}: modules import each other: {}", circles.join(", "));
    }
    Ok(())
}

/// The modules from which a module imports, without those around it.
fn imported(module: &[String], text: &str, known: &BTreeSet<Module>) -> BTreeSet<Module> {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let uses = text.split(';').filter_map(|statement| {
        let statement = statement.lines().filter(|line| !line.trim_start().starts_with("//"));
        let statement: String = statement.collect::<Vec<_>>().join(" ");
        let (before, path) = statement.rsplit_once("use ")?;
        let before = before.trim_end();
        let is_use =
            before.is_empty() || before.ends_with([')', '}', '{', ']']) || before.ends_with("pub");
        is_use.then(|| path.replace(' ', ""))
    });
    let mut found = BTreeSet::new();
    for path in uses.flat_map(|path| expanded(&path)) {
        let mut parts = path.split("::").peekable();
        let mut target = module.to_vec();
        match parts.peek() {
            Some(&"crate") => target.clear(),
            Some(&"super" | &"self") => {}
            Some(first) if known.contains(&child(&target, first)) => {}
            _ => continue,
        }
        for part in parts {
            match part {
                "crate" | "self" => {}
                "super" => drop(target.pop()),
                part if known.contains(&child(&target, part)) => target.push(part.to_owned()),
                _ => break,
            }
        }
        if !module.starts_with(&target) {
            found.insert(target);
        }
    }
    found
}

fn child(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

/// The paths of a `use` with braces.
fn expanded(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut paths, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths
                    .extend(expanded(&inner[start..at]).iter().map(|path| format!("{head}{path}")));
                start = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// Modules that import each other: those that remain when modules without further imports are taken away, and then
/// those that no other one imports.
fn circles(mut imports: BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    loop {
        let before = imports.len();
        let remaining: BTreeSet<_> = imports.keys().cloned().collect();
        for imported in imports.values_mut() {
            imported.retain(|module| remaining.contains(module));
        }
        let used: BTreeSet<_> = imports.values().flatten().cloned().collect();
        imports.retain(|module, imported| !imported.is_empty() && used.contains(module));
        if imports.len() == before {
            return imports.keys().map(|module| module.join("::")).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        path.split("::").filter(|part| !part.is_empty()).map(String::from).collect()
    }

    #[test]
    fn imports_are_found_in_all_forms() {
        let known = ["", "a", "a::b", "a::c", "d"].map(module).into();
        let text = "//! use crate::a;\n\nuse std::fs;\nuse crate::d::{x, y};\npub(crate) use super::{c::Z, Own};\n\
            use b::W as V;\n\nfn f() {\n    use crate::a::b::X;\n}\n\n#[cfg(test)]\nmod tests {\n    use crate::e;\n}\n";
        let found = |path: &str| -> Vec<_> {
            imported(&module(path), text, &known).iter().map(|module| module.join("::")).collect()
        };
        assert_eq!(found("a"), ["a::b", "d"]);
        assert_eq!(found("a::b"), ["a::c", "d"]);
    }

    #[test]
    fn circles_are_found() {
        let imports = |rows: &[(&str, &[&str])]| {
            let row = |(from, to): &(&str, &[&str])| {
                (module(from), to.iter().map(|path| module(path)).collect())
            };
            rows.iter().map(row).collect()
        };
        let straight: &[(&str, &[&str])] = &[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])];
        assert!(circles(imports(straight)).is_empty());
        let round: &[(&str, &[&str])] =
            &[("a", &["b"]), ("b", &["c"]), ("c", &["b", "d"]), ("d", &["e"]), ("e", &[])];
        assert_eq!(circles(imports(round)), ["b", "c"]);
    }
}
