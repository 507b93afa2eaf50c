//! Which files are opened.

use ima_format::elf::{ByteOrder, Class, Kind};

use super::*;
use crate::container::source::{Entry, EntryKind};

const X86_64: Machine = machine(Class::Bits64, 62);
const I386: Machine = machine(Class::Bits32, 3);

const fn machine(class: Class, number: u16) -> Machine {
    Machine { class, order: ByteOrder::Little, number }
}

fn elf(machine: Machine, needed: &[&str]) -> Elf {
    Elf {
        machine,
        kind: Kind::Shared,
        interpreter: None,
        needed: needed.iter().map(|name| name.as_bytes().to_vec()).collect(),
        soname: None,
        rpath: None,
        runpath: None,
        pie: false,
        no_default_directories: false,
        x86_64_level: 0,
    }
}

/// The paths opened for the first of some files, and what is missing, on the least CPU.
fn needs(files: &[(&str, Elf)], texts: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let texts: Vec<_> =
        texts.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect();
    on_cpu(None, files, &texts).0
}

/// What [`needs`] gives, on one CPU; and what is wrong with the cache.
fn on_cpu(
    cpu: Option<&str>,
    files: &[(&str, Elf)],
    texts: &[(&str, Vec<u8>)],
) -> ((Vec<String>, Vec<String>), Option<CacheFault>) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut add = |path: &Path, kind: EntryKind| {
        if entries.iter().all(|entry| entry.path != path) {
            let path = path.to_owned();
            entries.push(Entry { path, kind, mode: 0o755, uid: 0, gid: 0, identity: (0, 0) });
        }
    };
    for path in files.iter().map(|(path, _)| path).chain(texts.iter().map(|(path, _)| path)) {
        let path = Path::new(*path);
        path.ancestors().skip(1).for_each(|parent| add(parent, EntryKind::Directory));
        add(path, EntryKind::File { size: 1 });
    }
    let paths = Paths::new(entries);
    let number = |path: &str| paths.file(Path::new(path)).unwrap();
    let elves: HashMap<_, _> = files.iter().map(|(path, elf)| (number(path), elf)).collect();
    let mut text = |path: &Path| {
        let found = texts.iter().find(|(other, _)| Path::new(other) == path);
        found.map(|(_, text)| text.clone())
    };
    let cpus = Cpus::named(&cpu.map(str::to_owned).into_iter().collect::<Vec<_>>()).unwrap();
    let libraries = Libraries::new(&paths, &elves, &cpus, &mut text);
    let (program, elf) = &files[0];
    let groups = libraries.groups(elf.machine);
    let Needs { files, missing, .. } = libraries.needs(number(program), elf, &groups[0]);
    let shown = |number: &Number| paths.get(*number).path.display().to_string();
    let needed = (
        files.iter().map(|(number, _)| shown(number)).collect(),
        missing.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect(),
    );
    (needed, libraries.fault().cloned())
}

/// A cache of names, paths, flags, and whether the path is for CPUs of x86-64-v3.
fn cache(entries: &[(&str, &str, u32, bool)]) -> Vec<u8> {
    let base = 48 + entries.len() as u32 * 24;
    let mut strings = b"x86-64-v3\0".to_vec();
    let mut fixed = Vec::new();
    for (name, path, flags, level) in entries {
        let at = base + strings.len() as u32;
        let fields = [*flags, at, at + name.len() as u32 + 1, 0, 0, u32::from(*level) << 30];
        fixed.extend(fields.map(u32::to_le_bytes).concat());
        strings.extend([name.as_bytes(), b"\0", path.as_bytes(), b"\0"].concat());
    }
    let extensions = base + strings.len() as u32;
    let header = [entries.len() as u32, strings.len() as u32, 2, extensions, 0, 0, 0];
    let sections = [0xeaa4_2174, 1, 1, 0, extensions + 24, 4, base];
    [
        b"glibc-ld.so.cache1.1".to_vec(),
        header.map(u32::to_le_bytes).concat(),
        fixed,
        strings,
        sections.map(u32::to_le_bytes).concat(),
    ]
    .concat()
}

/// A program that glibc's loader starts.
fn program(needed: &[&str]) -> Elf {
    Elf { interpreter: Some(b"/lib64/ld-linux-x86-64.so.2".to_vec()), ..elf(X86_64, needed) }
}

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

#[test]
fn libraries_of_another_machine_are_skipped() {
    let files = [
        ("/bin/program", elf(X86_64, &["liba.so", "libgone.so"])),
        ("/opt/32/liba.so", elf(I386, &[])),
        ("/opt/64/liba.so", elf(X86_64, &["libb.so", "liba.so"])),
        ("/lib/libb.so", elf(I386, &[])),
        ("/usr/lib/libb.so", elf(X86_64, &[])),
    ];
    let cache = cache(&[
        ("liba.so", "/opt/32/liba.so", 0x0003, false),
        ("liba.so", "/opt/64/liba.so", 0x0303, false),
    ]);
    let (found, _) = on_cpu(None, &files, &[(places::CACHE, cache)]);
    assert_eq!(found.0, ["/opt/64/liba.so", "/usr/lib/libb.so"]);
    assert_eq!(found.1, ["libgone.so"]);
}

#[test]
fn the_loader_goes_by_the_cache_and_not_by_the_configuration() {
    let mut library = elf(X86_64, &[]);
    library.soname = Some(b"liba.so".to_vec());
    let files = [
        ("/bin/program", program(&["liba.so"])),
        (LOADER, elf(X86_64, &[])),
        ("/opt/l/liba.so", library),
    ];
    let conf = ("/etc/ld.so.conf", b"include ld.so.conf.d/*.conf\n".to_vec());
    let included = ("/etc/ld.so.conf.d/a.conf", b"/opt/l # words\n/usr/none\n".to_vec());
    let (found, fault) = on_cpu(None, &files, &[conf.clone(), included.clone()]);
    assert_eq!(found.1, ["liba.so"]);
    assert_eq!(fault, Some(CacheFault::Absent { directories: vec!["/opt/l".into()] }));

    let whole = cache(&[("liba.so", "/opt/l/liba.so", 0x303, false)]);
    for texts in [
        vec![(places::CACHE, whole.clone())],
        vec![(places::CACHE, whole.clone()), conf.clone(), included.clone()],
    ] {
        let (found, fault) = on_cpu(None, &files, &texts);
        assert_eq!((found.0, found.1), (vec![LOADER.into(), "/opt/l/liba.so".into()], vec![]));
        assert_eq!(fault, None);
    }

    let stale = cache(&[("libb.so", "/opt/l/libb.so", 0x303, false)]);
    let (found, fault) = on_cpu(None, &files, &[(places::CACHE, stale), conf, included]);
    assert_eq!(found.1, ["liba.so"]);
    let (gone, lacking) = (vec!["/opt/l/libb.so".into()], vec!["/opt/l/liba.so".into()]);
    assert_eq!(fault, Some(CacheFault::Stale { gone, lacking }));
    let (found, fault) = on_cpu(None, &files, &[(places::CACHE, whole[..50].to_vec())]);
    assert_eq!(found.1, ["liba.so"]);
    assert!(matches!(fault, Some(CacheFault::Malformed(_))), "{fault:?}");
}

#[test]
fn a_file_that_the_cache_names_and_is_gone_is_looked_for_in_the_default_directories() {
    let files = [
        ("/bin/program", program(&["liba.so"])),
        (LOADER, elf(X86_64, &[])),
        ("/usr/lib/liba.so", elf(X86_64, &[])),
        ("/opt/l/liba.so", elf(X86_64, &[])),
    ];
    let cache = cache(&[
        ("liba.so", "/gone/liba.so", 0x303, false),
        ("liba.so", "/opt/l/liba.so", 0x303, false),
    ]);
    let (found, _) = on_cpu(None, &files, &[(places::CACHE, cache)]);
    assert_eq!(found.0, [LOADER, "/usr/lib/liba.so"]);
}

#[test]
fn a_cpu_takes_the_variant_of_its_level() {
    let variant = "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so";
    let cached = "/opt/l/glibc-hwcaps/x86-64-v3/libb.so";
    let files = [
        ("/bin/program", program(&["liba.so", "libb.so"])),
        (LOADER, elf(X86_64, &[])),
        ("/usr/lib/liba.so", elf(X86_64, &[])),
        (variant, elf(X86_64, &[])),
        ("/opt/l/libb.so", elf(X86_64, &[])),
        (cached, elf(X86_64, &[])),
    ];
    let cache =
        cache(&[("libb.so", cached, 0x303, true), ("libb.so", "/opt/l/libb.so", 0x303, false)]);
    for (cpu, expected) in [
        ("x86-64", ["/usr/lib/liba.so", "/opt/l/libb.so"]),
        ("x86-64-v2", ["/usr/lib/liba.so", "/opt/l/libb.so"]),
        ("x86-64-v3-amd", [variant, cached]),
        ("xeon-phi", [variant, cached]),
        ("x86-64-v4", [variant, cached]),
    ] {
        let (found, _) = on_cpu(Some(cpu), &files, &[(places::CACHE, cache.clone())]);
        assert_eq!(found.0[1..], expected, "{cpu}");
    }
    // before glibc 2.33
    let texts = [(places::CACHE, cache), (LOADER, b"haswell".to_vec())];
    let (found, _) = on_cpu(Some("x86-64-v4"), &files, &texts);
    assert_eq!(found.0[1..], ["/usr/lib/liba.so", "/opt/l/libb.so"]);
}

#[test]
fn tokens_in_search_paths_are_expanded() {
    let library = |path| (path, elf(X86_64, &[]));
    let found = |runpath: &str, at: &'static str| {
        let mut program = program(&["liba.so"]);
        program.runpath = Some(runpath.as_bytes().to_vec());
        let loader = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
        program.interpreter = Some(loader.as_bytes().to_vec());
        let files = [("/opt/bin/program", program), library(loader), library(at)];
        needs(&files, &[]).1.is_empty()
    };
    for (runpath, at) in [
        ("/opt/$LIB/x", "/opt/lib/x86_64-linux-gnu/x/liba.so"),
        ("/none:/opt/${LIB}", "/opt/lib/x86_64-linux-gnu/liba.so"),
        ("${ORIGIN}-x/${PLATFORM}", "/opt/bin-x/x86_64/liba.so"),
        ("/opt/$LIBX", "/opt/$LIBX/liba.so"),
    ] {
        assert!(found(runpath, at), "{runpath}");
    }
    assert!(!found("/opt/$LIB", "/opt/lib64/liba.so"));
}

#[test]
fn musl_has_its_own_ways() {
    let loader = "/lib/ld-musl-x86_64.so.1";
    let mut program = elf(X86_64, &["libc.musl-x86_64.so.1", "liba.so"]);
    program.interpreter = Some(loader.as_bytes().to_vec());
    program.runpath = Some(b"$ORIGIN/../mine".to_vec());
    let files = |program: &Elf| {
        [
            ("/opt/bin/program", program.clone()),
            (loader, elf(X86_64, &[])),
            ("/opt/mine/liba.so", elf(X86_64, &["libb.so", "libc.so"])),
            ("/opt/mine/libb.so", elf(X86_64, &["libd.so"])),
            ("/srv/l/libd.so", elf(X86_64, &[])),
            ("/usr/local/lib/libd.so", elf(X86_64, &[])),
        ]
    };
    let found = needs(&files(&program), &[]);
    assert_eq!(found.0[1..], ["/opt/mine/liba.so", "/opt/mine/libb.so", "/usr/local/lib/libd.so"]);
    assert!(found.1.is_empty(), "{:?}", found.1);
    // its list, and that of another machine
    let listed = [("/etc/ld-musl-x86_64.path", "/none\n/srv/l"), ("/etc/ld-musl-arm.path", "/x")];
    assert_eq!(needs(&files(&program), &listed).0[3], "/srv/l/libd.so");
    // a token that it does not know spoils the whole path
    program.runpath = Some(b"$ORIGIN/../mine:/$LIB".to_vec());
    assert_eq!(needs(&files(&program), &[]).1, ["liba.so"]);
}

#[test]
fn rpath_is_inherited_and_runpath_is_not() {
    let mut program = elf(X86_64, &["liba.so"]);
    program.rpath = Some(b"$ORIGIN/../mine:/nowhere".to_vec());
    let library = elf(X86_64, &["libb.so"]);
    let files = |program: &Elf| {
        [
            ("/opt/bin/program", program.clone()),
            ("/opt/mine/liba.so", library.clone()),
            ("/opt/mine/libb.so", elf(X86_64, &[])),
        ]
    };
    let found = needs(&files(&program), &[]);
    assert_eq!(
        found.0,
        ["/opt/bin/../mine/liba.so", "/opt/bin/../mine/libb.so"]
            .map(|path| { path.replace("/bin/..", "") })
    );
    program.runpath = program.rpath.take();
    let found = needs(&files(&program), &[]);
    assert_eq!((found.0.len(), found.1), (1, vec!["libb.so".to_owned()]));
}

#[test]
fn a_loader_is_opened_first_and_once() {
    let mut program = elf(X86_64, &["ld.so.1", "libc.so"]);
    program.interpreter = Some(b"/lib/ld.so.1".to_vec());
    let mut loader = elf(X86_64, &[]);
    loader.soname = Some(b"ld.so.1".to_vec());
    let mut libc = elf(X86_64, &["ld.so.1"]);
    libc.soname = Some(b"libc.so".to_vec());
    let files = [("/bin/a", program), ("/lib/ld.so.1", loader), ("/lib/libc-2.so", libc)];
    let cache = cache(&[("libc.so", "/lib/libc-2.so", 0x303, false)]);
    let (found, _) = on_cpu(None, &files, &[(places::CACHE, cache)]);
    assert_eq!(found.0, ["/lib/ld.so.1", "/lib/libc-2.so"]);
}

/// Where a program finds its library on a CPU, if it is in one of some directories of `/opt`.
fn found(
    (cpu, machine): (&str, Machine),
    runpath: &str,
    directories: &[&str],
    loader: &str,
) -> Option<String> {
    let mut program = Elf { machine, ..program(&["liba.so"]) };
    program.runpath = Some(runpath.into());
    let names: Vec<_> = directories.iter().map(|it| format!("/opt/{it}/liba.so")).collect();
    let mut files = vec![("/bin/program", program), (LOADER, elf(machine, &[]))];
    files.extend(names.iter().map(|name| (name.as_str(), elf(machine, &[]))));
    let ((found, _), _) = on_cpu(Some(cpu), &files, &[(LOADER, loader.into())]);
    let found = found.get(1)?.strip_prefix("/opt/")?.strip_suffix("/liba.so")?;
    Some(found.to_owned())
}

#[test]
fn each_cpu_has_its_platform() {
    let big = |machine| Machine { order: ByteOrder::Big, ..machine };
    let (power, s390) = (machine(Class::Bits64, 21), machine(Class::Bits64, 22));
    for (cpu, machine, platform) in [
        ("x86-64-v2", X86_64, "x86_64"),
        ("x86-64-v3-amd", X86_64, "x86_64"),
        ("x86-64-v3-intel", X86_64, "haswell"),
        ("x86-64-v4-intel", X86_64, "haswell"),
        ("xeon-phi", X86_64, "xeon_phi"),
        ("i586", I386, "i586"),
        ("i686-sse2", I386, "i686"),
        ("armv8-a", machine(Class::Bits64, 183), "aarch64"),
        ("armv8.1-a", big(machine(Class::Bits64, 183)), "aarch64_be"),
        ("v7l-neon", machine(Class::Bits32, 40), "v7l"),
        ("power10", power, "power10"),
        ("power7", big(power), "power7"),
        ("zEC12", big(s390), "zEC12"),
        ("loongarch", machine(Class::Bits64, 258), "loongarch"),
    ] {
        let found = found((cpu, machine), "/opt/$PLATFORM", &[platform, "other"], "");
        assert_eq!(found.as_deref(), Some(platform), "{cpu}");
    }
    // the kernel passes none
    let riscv = machine(Class::Bits64, 243);
    assert_eq!(found(("i486", riscv), "/opt/$PLATFORM", &["riscv64", "$PLATFORM"], ""), None);
}

#[test]
fn legacy_directories_are_searched_up_to_glibc_2_36() {
    const OLD: &str = "haswell";
    const BOTH: &str = "glibc-hwcaps, Legacy HWCAP subdirectories under";
    const NEW: &str = "glibc-hwcaps";
    let all = [
        "tls/haswell/avx512_1/x86_64",
        "tls/haswell/x86_64",
        "tls",
        "haswell/avx512_1",
        "avx512_1",
        "x86_64",
    ];
    for (loader, cpu, from, expected) in [
        (OLD, "x86-64-v4-intel", 0, Some("tls/haswell/avx512_1/x86_64")),
        (BOTH, "x86-64-v4-intel", 0, Some("tls/haswell/avx512_1/x86_64")),
        (BOTH, "x86-64-v4-intel", 3, Some("haswell/avx512_1")),
        (BOTH, "x86-64-v3-intel", 0, Some("tls/haswell/x86_64")),
        (BOTH, "x86-64-v4-amd", 0, Some("tls")),
        (BOTH, "x86-64-v4-amd", 3, Some("x86_64")),
        (NEW, "x86-64-v4-intel", 0, None),
    ] {
        let found = found((cpu, X86_64), "/opt", &all[from..], loader);
        assert_eq!(found.as_deref(), expected, "{loader}, {cpu}");
    }
    let s390 = Machine { order: ByteOrder::Big, ..machine(Class::Bits64, 22) };
    for (cpu, expected) in [("z196", None), ("z14", Some("vxe/vx/zarch")), ("z15", Some("vxe2"))] {
        let found = found((cpu, s390), "/opt", &["vxe2", "vxe/vx/zarch"], OLD);
        assert_eq!(found.as_deref(), expected, "{cpu}");
    }
}

#[test]
fn cpus_are_named_as_briefly_as_can_be() {
    let name = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        cpu::names(&Cpus::named(&names).unwrap().of(X86_64), X86_64)
    };
    assert_eq!(name(&["x86-64-v3"]), ["x86-64-v3"]);
    let amd = ["x86-64-v3-amd", "x86-64-v4-amd"];
    assert_eq!(name(&["x86-64-v4-amd", "x86-64-v3-amd"]), amd);
    let (two, all) = (name(&["x86-64-v2", "xeon-phi"]), name(&["z15"]));
    assert_eq!((two, all.len()), (vec!["x86-64-v2", "xeon-phi"], 4));
    assert!(Cpus::named(&["haswell".into()]).is_err());
}
