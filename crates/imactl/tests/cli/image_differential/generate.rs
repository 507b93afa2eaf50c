//! Generates images from a seed.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, FileExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::seeded::Random;
use crate::support::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ext,
    Erofs,
    Squashfs,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
        }
    }

    pub(super) fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Ext => &["mke2fs", "debugfs", "e2fsck"],
            Self::Erofs => &["mkfs.erofs", "fsck.erofs"],
            Self::Squashfs => &["mksquashfs", "unsquashfs", "sqfs2tar"],
        }
    }
}

/// Generates images of one tree.
pub(super) struct Making {
    root: PathBuf,
}

/// Files of the tree that may be changed by name.
const NAMES: &[&str] = &[
    "empty",
    "large",
    "link",
    "longlink",
    "medium",
    "program",
    "small",
    "sparse",
    "sub",
    "sub/deep",
    "sub/deep/file",
    "sub/many",
    "sub/twin",
];

impl Making {
    pub(super) fn new(directory: &Path) -> Self {
        let root = directory.join("tree");
        let large: Vec<u8> = (0..30_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        write_tree(
            &root,
            &[
                ("empty", b""),
                ("large", &large),
                ("medium", &[7; 5000]),
                ("program", b"\x7fELF and so on"),
                ("small", &[8; 130]),
                ("sub/deep/file", b"deep"),
                ("sub/many/.x", b"."),
            ],
        );
        for number in 0..60 {
            fs::write(root.join(format!("sub/many/{number:0>60}")), number.to_string()).unwrap();
        }
        fs::hard_link(root.join("program"), root.join("sub/twin")).unwrap();
        symlink("program", root.join("link")).unwrap();
        symlink("/".repeat(90) + "sub", root.join("longlink")).unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        for piece in 0..12 {
            sparse.write_all_at(b"data in a hole", piece * 25_000).unwrap();
        }
        let label = |name: &str, length: usize| {
            set_security_ima(&root.join(name), &vec![3; length]);
        };
        label("large", 34);
        label("medium", 300);
        label("program", 140);
        label("sub/deep/file", 34);
        let flags = rustix::fs::XattrFlags::empty();
        for (name, length) in [("user.a", 10), ("user.zz", 200), ("security.evm", 20)] {
            rustix::fs::setxattr(root.join("medium"), name, &vec![5; length], flags).unwrap();
        }
        Self { root }
    }

    /// Makes an image, and describes how.
    pub(super) fn image(&self, kind: Kind, random: &mut Random, image: &Path) -> String {
        fs::remove_file(image).ok();
        let mut how = match kind {
            Kind::Ext => self.ext(random, image),
            Kind::Erofs => self.erofs(random, image),
            Kind::Squashfs => self.squashfs(random, image),
        };
        if !random.one_in(4) {
            how += &flip(random, image, kind);
        }
        how
    }

    fn ext(&self, random: &mut Random, image: &Path) -> String {
        let mut features = vec![random.pick(&["^has_journal", "^has_journal,^resize_inode"])];
        for feature in [
            "inline_data",
            "ea_inode",
            "extent",
            "64bit",
            "metadata_csum",
            "flex_bg",
            "dir_index",
            "large_dir",
            "huge_file",
            "uninit_bg",
            "sparse_super2",
            "metadata_csum_seed",
        ] {
            match random.below(4) {
                0 => features.push(feature),
                1 => features.push(NEGATED.iter().find(|no| &no[1..] == feature).unwrap()),
                _ => {}
            }
        }
        match random.below(6) {
            0 => features.push("meta_bg,^resize_inode"),
            1 => features.push("bigalloc"),
            _ => {}
        }
        let features = features.join(",");
        let block = random.pick(&["1024", "1024", "4096"]);
        let inode = random.pick(&["128", "256", "256", "512"]);
        let made = |features: &str| {
            let mut mke2fs = Command::new("mke2fs");
            mke2fs.args(["-q", "-F", "-t", "ext4", "-b", block, "-I", inode, "-N", "160"]);
            mke2fs.args(["-O", features, "-d"]).arg(&self.root).arg(image).arg("4M");
            finish(&mut mke2fs).code == Some(0)
        };
        let mut how = format!("-b {block} -I {inode} -O {features}");
        if !made(&features) {
            // features that exclude each other
            fs::remove_file(image).ok();
            assert!(made("^has_journal"), "{how}");
            how = format!("-b {block} -I {inode}");
        }
        if random.one_in(2) {
            // indexes of directories
            finish(Command::new("e2fsck").args(["-fyD"]).arg(image));
            how += " indexed";
        }
        let mut requests = String::new();
        for _ in 0..random.below(4) {
            requests += &request(random);
            requests.push('\n');
        }
        if !requests.is_empty() {
            let batch = image.with_extension("batch");
            fs::write(&batch, &requests).unwrap();
            fs::write(image.with_extension("value"), [9; 90]).unwrap();
            let mut debugfs = Command::new("debugfs");
            debugfs.args(["-w", "-f"]).arg(&batch).arg(image);
            finish(debugfs.current_dir(image.parent().unwrap())).exits(0);
            how += &format!(" {requests:?}");
        }
        how
    }

    fn erofs(&self, random: &mut Random, image: &Path) -> String {
        let forms: &[&[&str]] = &[
            &[],
            &["-zlz4"],
            &["-zlz4hc", "-C65536"],
            &["-zlz4", "-Eztailpacking"],
            &["-zlz4", "-Efragments"],
            &["-zlz4", "-Eall-fragments,dedupe"],
            &["-zlz4", "-Elegacy-compress"],
            &["--chunksize=4096"],
            &["--chunksize=8192", "-Eforce-chunk-indexes"],
            &["-x1"],
            &["-Eforce-inode-extended"],
            &["-b1024"],
        ];
        let form = random.pick(forms);
        let mut mkfs = Command::new("mkfs.erofs");
        mkfs.args(["-Enosbcrc", "-T0"]).args(form).arg(image).arg(&self.root);
        if finish(&mut mkfs).code != Some(0) {
            fs::remove_file(image).ok();
            let mut mkfs = Command::new("mkfs.erofs");
            finish(mkfs.args(["-Enosbcrc", "-T0"]).arg(image).arg(&self.root)).exits(0);
        }
        form.join(" ")
    }

    fn squashfs(&self, random: &mut Random, image: &Path) -> String {
        let forms: &[&[&str]] = &[
            &["-comp", "gzip"],
            &["-comp", "zstd", "-b", "4096"],
            &["-noI", "-noD", "-noF", "-noX"],
            &["-noI", "-noX", "-noId"],
            &["-no-fragments", "-noI", "-noX"],
        ];
        let form = random.pick(forms);
        let mut mksquashfs = Command::new("mksquashfs");
        mksquashfs.arg(&self.root).arg(image).args(["-quiet", "-no-progress"]).args(form);
        finish(&mut mksquashfs).exits(0);
        form.join(" ")
    }
}

const NEGATED: &[&str] = &[
    "^inline_data",
    "^ea_inode",
    "^extent",
    "^64bit",
    "^metadata_csum",
    "^flex_bg",
    "^dir_index",
    "^large_dir",
    "^huge_file",
    "^uninit_bg",
    "^sparse_super2",
    "^metadata_csum_seed",
];

/// A random command for debugfs, valid or not.
fn request(random: &mut Random) -> String {
    let name = random.pick(NAMES);
    let other = random.pick(NAMES);
    let inode = random.below(100);
    match random.below(16) {
        0 => {
            format!("sif {name} size {}", random.pick(&[0_u64, 1, 59, 60, 61, 1024, 5000, 1 << 33]))
        }
        1 => format!("sif {name} links_count {}", random.below(3)),
        2 => {
            let flag = random.pick(&[
                0_u32,
                0x800,
                0x1000,
                0x8_0000,
                0x8_1000,
                0x1000_0000,
                0x1008_0000,
                0x20_0000,
                0x28_0000,
                0x10_0000,
                0x4000_0000,
                0x10,
            ]);
            format!("sif {name} flags {flag:#x}")
        }
        3 => format!(
            "sif {name} mode {:#o}",
            random.pick(&[0o100755, 0o40755, 0o120777, 0o20644, 0])
        ),
        4 => format!("sif {name} extra_isize {}", random.pick(&[0, 4, 28, 32, 30, 96, 400])),
        5 => format!("sif {name} file_acl {}", random.below(4000)),
        6 => format!("sif {name} block[{}] {}", random.below(15), random.below(4000)),
        7 => format!("sif {name} blocks {}", random.pick(&[0, 2, 8, 16])),
        8 => format!("ln {name} {other}"),
        9 => format!("ln <{inode}> new{inode}"),
        10 => format!("unlink {name}"),
        11 => format!("ea_set -f image.value {name} {}", random.pick(&["security.ima", "user.b"])),
        12 => format!("ea_rm {name} security.ima"),
        13 => format!("punch {name} {} {}", random.below(10), random.below(40)),
        14 => format!("fallocate {name} {} {}", random.below(20), 20 + random.below(20)),
        _ => format!("sif {name} generation {}", random.below(1000)),
    }
}

/// Changes some nonzero bytes, and describes the change.
fn flip(random: &mut Random, image: &Path, kind: Kind) -> String {
    let mut bytes = fs::read(image).unwrap();
    // the superblock of ext4 only decides whether it is mounted
    let from = if kind == Kind::Ext { 2048 } else { 0 };
    let used: Vec<usize> = (from..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut how = String::new();
    for _ in 0..1 + random.below(6) {
        let at = used[random.below(used.len())];
        let value = match random.below(5) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at].wrapping_add(1),
            3 => bytes[used[random.below(used.len())]],
            _ => bytes[at] ^ 1 << random.below(8),
        };
        bytes[at] = value;
        how += &format!(" {at:#x}={value:#x}");
    }
    fs::write(image, bytes).unwrap();
    how
}
