//! The CPUs that a root may run on, as far as glibc's loader distinguishes them.
//!
//! | column | glibc, Linux |
//! |---|---|
//! | level: the directories of `glibc-hwcaps` that are searched | `sysdeps/*/dl-hwcaps-subdirs.c` |
//! | platform: `$PLATFORM`, and a legacy directory | `AT_PLATFORM` (`ELF_PLATFORM` in `arch/*/include/asm/elf.h`); x86: `update_active` in `sysdeps/x86/cpu-features.c` |
//! | capabilities: legacy directories, bits of `/etc/ld.so.cache` | `HWCAP_IMPORTANT` in `dl-procinfo.h` and `dl-hwcap.h`, `_dl_string_platform` |
//!
//! Invariant: the CPUs of a list that differ in no column find the same libraries, so one of them is
//! enough; two that the loader treats differently must be two entries. A list is in the order of the
//! levels, on which the names of groups depend ([`names`]).
//!
//! Not listed, since no such machine is known: Intel CPUs with AVX2 and BMI2 that lack another
//! part of x86-64-v3, and features that a hypervisor hides from some of a level's CPUs.

use std::collections::HashSet;
use std::fmt;

use ima_format::elf::{ByteOrder, Class, Machine};

/// CPUs on which the loader finds the same libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cpu {
    pub(super) name: &'static str,
    /// How many of [`levels`] it has.
    pub(super) level: usize,
    pub(super) platform: Option<&'static str>,
    pub(super) capabilities: u64,
}

const fn cpu(name: &'static str, level: usize, platform: &'static str, capabilities: u64) -> Cpu {
    Cpu { name, level, platform: Some(platform), capabilities }
}

/// One that differs from others by its platform alone.
const fn plain(platform: &'static str) -> Cpu {
    cpu(platform, 0, platform, 0)
}

const SSE2: u64 = 1;
const X86_64_CAPABILITY: u64 = 1 << 1;
const AVX512_1: u64 = 1 << 2;
const I586: u64 = 1 << 48;
const I686: u64 = 1 << 49;
const HASWELL: u64 = X86_64_CAPABILITY | 1 << 50;
const XEON_PHI: u64 = X86_64_CAPABILITY | 1 << 51;

/// The platform is `x86_64` but for Intel's CPUs with AVX2; -amd are those of all other vendors.
const X86_64: &[Cpu] = &[
    cpu("x86-64", 0, "x86_64", X86_64_CAPABILITY),
    cpu("x86-64-v2", 1, "x86_64", X86_64_CAPABILITY),
    cpu("x86-64-v3-amd", 2, "x86_64", X86_64_CAPABILITY),
    cpu("x86-64-v3-intel", 2, "haswell", HASWELL),
    cpu("xeon-phi", 2, "xeon_phi", XEON_PHI),
    cpu("x86-64-v4-amd", 3, "x86_64", X86_64_CAPABILITY),
    cpu("x86-64-v4-intel", 3, "haswell", HASWELL | AVX512_1),
];
const I386: &[Cpu] = &[
    plain("i486"),
    cpu("i586", 0, "i586", I586),
    cpu("i686", 0, "i686", I686),
    cpu("i686-sse2", 0, "i686", I686 | SSE2),
];

const AARCH64: &[Cpu] = &[cpu("armv8-a", 0, "aarch64", 0), cpu("armv8.1-a", 0, "aarch64", ATOMICS)];
const AARCH64_BE: &[Cpu] =
    &[cpu("armv8-a", 0, "aarch64_be", 0), cpu("armv8.1-a", 0, "aarch64_be", ATOMICS)];
const ATOMICS: u64 = 1 << 8;

const ARM: &[Cpu] = &[
    plain("v4l"),
    plain("v5l"),
    cpu("v5l-vfp", 0, "v5l", VFP),
    plain("v5tl"),
    plain("v6l"),
    cpu("v6l-vfp", 0, "v6l", VFP),
    plain("v7l"),
    cpu("v7l-vfp", 0, "v7l", VFP),
    cpu("v7l-neon", 0, "v7l", VFP | NEON),
    cpu("v8l", 0, "v8l", VFP | NEON),
];
const ARM_BE: &[Cpu] = &[
    plain("v4b"),
    plain("v5b"),
    plain("v5tb"),
    plain("v6b"),
    cpu("v6b-vfp", 0, "v6b", VFP),
    plain("v7b"),
    cpu("v7b-vfp", 0, "v7b", VFP),
    cpu("v7b-neon", 0, "v7b", VFP | NEON),
    cpu("v8b", 0, "v8b", VFP | NEON),
];
const VFP: u64 = 1 << 6;
const NEON: u64 = 1 << 12;

const POWER_LE: &[Cpu] = &[
    cpu("power8", 0, "power8", POWER | 1 << 45),
    cpu("power9", 1, "power9", POWER | 1 << 46),
    cpu("power10", 2, "power10", POWER | 1 << 47),
    cpu("power11", 2, "power11", POWER),
];
const POWER_BE: &[Cpu] = &[
    cpu("ppc970", 0, "ppc970", ALTIVEC | 1 << 33),
    cpu("power5", 0, "power5", 1 << 34),
    cpu("power5+", 0, "power5+", 1 << 35),
    cpu("power6", 0, "power6", POWER | 1 << 36),
    cpu("power6x", 0, "power6x", POWER | 1 << 38),
    cpu("ppc-cell-be", 0, "ppc-cell-be", ALTIVEC | 1 << 37),
    cpu("pa6t", 0, "pa6t", ALTIVEC),
    cpu("power7", 0, "power7", POWER | 1 << 39),
    cpu("power7+", 0, "power7+", POWER),
    cpu("power8", 0, "power8", POWER | 1 << 45),
    cpu("power9", 0, "power9", POWER | 1 << 46),
    cpu("power10", 0, "power10", POWER | 1 << 47),
    cpu("power11", 0, "power11", POWER),
    plain("ppce5500"),
    cpu("ppce6500", 0, "ppce6500", ALTIVEC),
];
const DFP: u64 = 1 << 10;
const ALTIVEC: u64 = 1 << 28;
const POWER: u64 = DFP | ALTIVEC;

const S390: &[Cpu] = &[
    cpu("z10", 0, "z10", Z10 | 1 << 36),
    cpu("z196", 0, "z196", Z10 | 1 << 37),
    cpu("zEC12", 0, "zEC12", Z10 | 1 << 38),
    cpu("z13", 1, "z13", Z10 | VX | 1 << 39),
    cpu("z14", 2, "z14", Z10 | VX | VXE | 1 << 40),
    cpu("z15", 3, "z15", Z10 | VX | VXE | VXE2 | 1 << 41),
    cpu("z16", 4, "z16", Z10 | VX | VXE | VXE2 | 1 << 42),
    cpu("z17", 5, "z17", Z10 | VX | VXE | VXE2 | 1 << 43),
];
/// zarch, ldisp, eimm, dfp
const Z10: u64 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6;
const VX: u64 = 1 << 11;
const VXE: u64 = 1 << 13;
const VXE2: u64 = 1 << 15;

const MIPS: &[Cpu] = &[
    plain("mips"),
    plain("bmips32"),
    plain("bmips3300"),
    plain("bmips4350"),
    plain("bmips4380"),
    plain("bmips5000"),
    plain("gs264e"),
    plain("loongson2e"),
    plain("loongson2f"),
    plain("loongson3a"),
    plain("loongson3b"),
    plain("octeon"),
    plain("octeon2"),
    plain("octeon3"),
];
const LOONGARCH: &[Cpu] = &[plain("loongarch")];
/// RISC-V, SPARC and others, where the kernel passes no `AT_PLATFORM`.
const OTHERS: &[Cpu] = &[Cpu { name: "any", level: 0, platform: None, capabilities: 0 }];

const ALL: [&[Cpu]; 12] = [
    X86_64, I386, AARCH64, AARCH64_BE, ARM, ARM_BE, POWER_LE, POWER_BE, S390, MIPS, LOONGARCH,
    OTHERS,
];

/// The CPUs that programs for a machine may run on.
fn cpus(machine: Machine) -> &'static [Cpu] {
    match (machine.number, machine.order) {
        (62, _) => X86_64,
        (3, _) => I386,
        (183, ByteOrder::Little) => AARCH64,
        (183, ByteOrder::Big) => AARCH64_BE,
        (40, ByteOrder::Little) => ARM,
        (40, ByteOrder::Big) => ARM_BE,
        (21, ByteOrder::Little) => POWER_LE,
        (21, ByteOrder::Big) => POWER_BE,
        (22, _) => S390,
        (8, _) => MIPS,
        (258, _) => LOONGARCH,
        _ => OTHERS,
    }
}

/// The directories of `glibc-hwcaps`, each for the CPUs of its level and of those that follow.
pub(super) fn levels(machine: Machine) -> &'static [&'static str] {
    match (machine.number, machine.class, machine.order) {
        (62, ..) => &["x86-64-v2", "x86-64-v3", "x86-64-v4"],
        (21, Class::Bits64, ByteOrder::Little) => &["power9", "power10"],
        (22, Class::Bits64, _) => &["z13", "z14", "z15", "z16", "z17"],
        _ => &[],
    }
}

/// The machines with [`capabilities`].
const NUMBERS: [u16; 6] = [3, 21, 22, 40, 62, 183];
/// A legacy directory for all CPUs.
const TLS: &str = "tls";

/// Capabilities with a legacy directory, by their bit.
fn capabilities(machine: u16) -> &'static [(u64, &'static str)] {
    match machine {
        62 => &[(X86_64_CAPABILITY, "x86_64"), (AVX512_1, "avx512_1")],
        3 => &[(SSE2, "sse2")],
        183 => &[(ATOMICS, "atomics")],
        40 => &[(VFP, "vfp"), (NEON, "neon")],
        21 => &[(DFP, "dfp"), (ALTIVEC, "altivec")],
        22 => &[
            (1 << 1, "zarch"),
            (1 << 4, "ldisp"),
            (1 << 5, "eimm"),
            (1 << 6, "dfp"),
            (VX, "vx"),
            (VXE, "vxe"),
            (VXE2, "vxe2"),
        ],
        _ => &[],
    }
}

impl Cpu {
    /// The names of its legacy directories, the outermost one first: `tls/haswell/x86_64`.
    pub(super) fn legacy(&self, machine: Machine) -> Vec<&'static str> {
        let own = capabilities(machine.number)
            .iter()
            .rev()
            .filter(|(bit, _)| self.capabilities & bit != 0);
        [TLS].into_iter().chain(self.platform).chain(own.map(|(_, name)| *name)).collect()
    }

    /// Whether it takes a library of the cache that asks for these capabilities.
    pub(super) fn has(&self, capabilities: u64) -> bool {
        let tls = 1 << 63;
        capabilities & !(self.capabilities | tls) == 0
    }
}

/// The CPUs that the root is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpus(Vec<String>);

/// A name that no CPU has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCpu(String);

impl fmt::Display for UnknownCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown CPU {:?}", self.0)
    }
}

impl std::error::Error for UnknownCpu {}

impl crate::advice::Advice for UnknownCpu {}

impl Cpus {
    /// Those with one of these names, of a CPU or a level; all CPUs without names.
    ///
    /// # Errors
    /// The first unknown name.
    pub fn named(names: &[String]) -> Result<Self, UnknownCpu> {
        let known = |name: &str| Self::names().contains(&name);
        match names.iter().find(|name| !known(name)) {
            Some(name) => Err(UnknownCpu(name.clone())),
            None => Ok(Self(names.to_vec())),
        }
    }

    /// All names.
    pub fn names() -> Vec<&'static str> {
        let levels = ["x86-64-v3", "x86-64-v4"];
        let mut names: Vec<_> = ALL.iter().copied().flatten().map(|cpu| cpu.name).collect();
        names.extend(levels);
        names.retain(|name| *name != "any");
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Those for a machine: all of them where no name is one of its CPUs.
    pub(super) fn of(&self, machine: Machine) -> Vec<&'static Cpu> {
        let is_named = |cpu: &&Cpu| {
            self.0.iter().any(|name| name == cpu.name || Some(name.as_str()) == level(cpu, machine))
        };
        let all = cpus(machine);
        let named: Vec<_> = all.iter().filter(is_named).collect();
        if named.is_empty() {
            all.iter().collect()
        } else {
            named
        }
    }
}

/// The name of its level, where that is not a CPU's name, too.
fn level(cpu: &Cpu, machine: Machine) -> Option<&'static str> {
    let level = *levels(machine).get(cpu.level.checked_sub(1)?)?;
    cpus(machine).iter().all(|other| other.name != level).then_some(level)
}

/// The names of some of a machine's CPUs: that of the level for all of a level.
pub(super) fn names(some: &[&Cpu], machine: Machine) -> Vec<&'static str> {
    let all = cpus(machine);
    let whole = |level| all.iter().filter(|cpu| cpu.level == level).all(|cpu| some.contains(&cpu));
    let name = |cpu: &Cpu| level(cpu, machine).filter(|_| whole(cpu.level)).unwrap_or(cpu.name);
    let mut names: Vec<_> = all.iter().filter(|cpu| some.contains(cpu)).map(name).collect();
    names.dedup();
    names
}

/// The names that legacy directories have on some machine.
pub(super) fn legacy_names() -> HashSet<&'static str> {
    let capabilities = NUMBERS.into_iter().flat_map(capabilities).map(|(_, name)| *name);
    let platforms = ALL.into_iter().flatten().filter_map(|cpu| cpu.platform);
    capabilities.chain(platforms).chain([TLS]).collect()
}
