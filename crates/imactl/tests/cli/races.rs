//! Directories and files that are replaced with links during a run: no file outside of the named ones is
//! signed, cleared or written, and none from outside gets a verdict.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{renameat_with, RenameFlags, CWD};

use crate::support::*;

const FILES: usize = 250;
/// Runs of each kind; `IMACTL_TEST_RACES` overrides it.
fn rounds() -> usize {
    std::env::var("IMACTL_TEST_RACES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4)
}

/// A tree with files in `d`, and a directory outside with the same names.
struct Scene {
    _directory: tempfile::TempDir,
    base: PathBuf,
    keys: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let directory = directory();
        let base = directory.path().to_owned();
        let keys = store(&base, "p-256");
        for place in ["tree/d", "outside"] {
            fs::create_dir_all(base.join(place)).unwrap();
            for number in 0..FILES {
                let content = format!("{place} {number}");
                fs::write(base.join(place).join(format!("f{number:03}")), content).unwrap();
            }
        }
        symlink(base.join("outside"), base.join("link")).unwrap();
        Self { _directory: directory, base, keys }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// Exchanges two names repeatedly while `work` runs, and restores them.
    fn exchanging<T>(&self, one: &Path, other: &Path, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        let exchange = || renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0_u64.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    // the original state lasts longer than the exchanged one, so that runs make progress
                    let factor = if round % 2 == 0 { 4 } else { 1 };
                    std::thread::sleep(Duration::from_micros(factor * (50 + round * 37 % 900)));
                    exchange();
                }
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            result
        });
        if fs::symlink_metadata(one).unwrap().is_symlink() {
            exchange();
        }
        result
    }

    /// Runs the program while the directory in the tree is repeatedly exchanged with a link that leads outside.
    fn run(&self, args: &[OsString]) -> Run {
        let (directory, link) = (self.path("tree/d"), self.path("link"));
        self.exchanging(&directory, &link, || run(args))
    }

    fn outside(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (0..FILES).map(|number| self.base.join(format!("outside/f{number:03}")))
    }

    fn signed_outside(&self) -> usize {
        self.outside().filter(|path| security_ima(path).is_some()).count()
    }
}

#[test]
fn nothing_outside_is_signed_or_cleared() {
    let scene = Scene::new();
    if !security_attributes(&scene.base) {
        return;
    }
    let (keys, tree) = (&scene.keys, scene.path("tree"));
    let mut signed = 0;
    for round in 0.. {
        if round >= rounds() && (signed > 0 || round > 100) {
            break;
        }
        scene.run(&args!["sign", "--keys", keys, tree]);
        assert_eq!(scene.signed_outside(), 0);
        let inside = fs::read_dir(scene.path("tree/d")).unwrap();
        signed += inside.filter(|it| security_ima(&it.as_ref().unwrap().path()).is_some()).count();
    }
    assert!(signed > 0, "no run found the directory");
    run(args!["sign", "--keys", keys, scene.path("outside")]).exits(0);
    for _ in 0..rounds() {
        scene.run(&args!["clear", tree]);
        assert_eq!(scene.signed_outside(), FILES);
    }
    // every run may have met the link: clear the remaining signatures now
    run(args!["clear", tree]).exits(0);
    // the files outside are signed, those in the tree are not: none is valid
    for _ in 0..rounds() {
        let verified = scene.run(&args!["verify", "--keys", keys, tree]);
        assert_ne!(verified.code, Some(0));
        assert!(!verified.stdout.contains("valid        "), "{}", verified.stdout);
        let inspected = scene.run(&args!["inspect", "--json", tree]);
        assert!(!inspected.stdout.contains("key_id"), "{}", inspected.stdout);
    }
}

#[test]
fn no_detached_signature_is_written_or_removed_outside() {
    let scene = Scene::new();
    let (keys, tree, outside) = (&scene.keys, scene.path("tree"), scene.path("outside"));
    for _ in 0..rounds() {
        scene.run(&args!["sign", "--detached", "--keys", keys, tree]);
        assert_eq!(names(&outside).len(), FILES);
    }
    run(args!["sign", "--detached", "--keys", keys, outside]).exits(0);
    for _ in 0..rounds() {
        scene.run(&args!["clear", "--detached", tree]);
        assert_eq!(names(&outside).len(), 2 * FILES);
    }
    let list: Vec<_> = (0..FILES).map(|number| format!("tree/d/f{number:03}")).collect();
    fs::write(scene.path("list"), list.join("\n")).unwrap();
    for _ in 0..rounds() {
        // each of these paths may lead outside when it is resolved; but a signature is stored only for the file that
        // was read
        let mut command = imactl();
        command.current_dir(&scene.base);
        command.args(args!["sign", "--detached", "--keys", keys, "--files-from", "list"]);
        let (directory, link) = (scene.path("tree/d"), scene.path("link"));
        scene.exchanging(&directory, &link, || finish(&mut command));
        for place in [&outside, &directory] {
            let args = args!["verify", "--detached", "--json", "--keys", keys, place];
            let verdicts = run(args).json();
            let wrong = verdicts.iter().filter(|line| line["verdict"] == "invalid-signature");
            assert_eq!(wrong.count(), 0);
        }
    }
}

#[test]
fn a_file_that_is_exchanged_for_a_link_is_not_followed() {
    let scene = Scene::new();
    if !security_attributes(&scene.base) {
        return;
    }
    let (keys, tree) = (&scene.keys, scene.path("tree"));
    let (file, link) = (scene.path("tree/d/f000"), scene.path("tree/link"));
    symlink(scene.path("outside/f000"), &link).unwrap();
    for _ in 0..2 * rounds() {
        scene.exchanging(&file, &link, || run(args!["sign", "--keys", keys, tree]));
        assert_eq!(scene.signed_outside(), 0);
    }
}

/// Small containers of each kind; kinds without an installed tool are left out.
fn containers(place: &Path) -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_6.rpm");
    let (rpm, tar, image) = (place.join("p.rpm"), place.join("a.tar"), place.join("i.img"));
    fs::copy(package, &rpm).unwrap();
    let mut found = vec![rpm];
    let root = place.parent().unwrap().join("root");
    write_tree(&root, &[("bin/program", b"#!/bin/sh\n"), ("etc/file", b"content")]);
    if let Some(mut command) = tool("tar") {
        finish(command.arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".")).exits(0);
        found.push(tar);
    }
    if let Some(mut command) = tool("mke2fs") {
        command.args(["-q", "-F", "-t", "ext4", "-I", "512", "-d"]).arg(&root).arg(&image);
        finish(command.arg("4M")).exits(0);
        found.push(image);
    }
    found
}

#[test]
fn packages_below_a_tree_are_replaced_where_they_were_found() {
    let scene = Scene::new();
    for place in ["tree/d", "outside"] {
        containers(&scene.path(place));
    }
    let package = scene.path("outside/p.rpm");
    let before = (fs::read(&package).unwrap(), names(&scene.path("outside")));
    for round in 0..4 * rounds() {
        let verb = ["sign", "clear"][round % 2];
        let mut args = args![verb, "-r", scene.path("tree")].to_vec();
        if verb == "sign" {
            args.extend(args!["--keys", scene.keys]);
        }
        scene.run(&args);
        assert_eq!((fs::read(&package).unwrap(), names(&scene.path("outside"))), before);
    }
}

#[test]
fn an_output_goes_whole_to_one_directory() {
    let scene = Scene::new();
    fs::create_dir(scene.path("originals")).unwrap();
    let (inside, outside) = (scene.path("tree/d"), scene.path("outside"));
    let before = names(&outside);
    for container in containers(&scene.path("originals")) {
        let name = container.file_name().unwrap();
        for _ in 0..2 * rounds() {
            let output = match container.extension() == Some("rpm".as_ref()) {
                true => args!["--output-dir", inside],
                false => args!["-o", inside.join(name)],
            };
            let args = args!["sign", "--keys", scene.keys, container];
            let args: Vec<_> = args.into_iter().chain(output).collect();
            // the result depends on when the path is resolved
            let ran = scene.run(&args);
            let found: Vec<_> = [&inside, &outside]
                .map(|it| it.join(name))
                .into_iter()
                .filter(|it| it.exists())
                .collect();
            assert!(found.len() <= 1 && (ran.code != Some(0) || found.len() == 1), "{ran:?}");
            for path in found {
                run(args!["verify", "--quiet", "--keys", scene.keys, path]).exits(0);
                fs::remove_file(path).unwrap();
            }
            assert_eq!((names(&outside), names(&inside)), (before.clone(), before.clone()));
        }
    }
}
