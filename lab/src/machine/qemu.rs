//! The QEMU arguments of a machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{firmware, Clock, Disk, Machine, Tpm};
use crate::kernel::Architecture;

/// Where the serial console goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Console {
    /// To a file in the machine's directory.
    File,
    /// To the terminal of the user who runs the lab, and back.
    Terminal,
}

/// Words of each kernel's command line. A panic ends QEMU (`-no-reboot`); audit records are neither
/// delayed nor dropped when many arrive at once.
const WORDS: [&str; 4] =
    ["panic=-1", "audit_backlog_limit=0", "printk.devkmsg=on", "sysctl.kernel.printk_ratelimit=0"];

/// A machine type of QEMU.
struct Board {
    name: &'static str,
    processor: &'static str,
    /// The suffix of the names of its virtio devices.
    bus: &'static str,
    /// Further words: the console, and others that it needs.
    words: &'static [&'static str],
}

const fn board(architecture: Architecture) -> Board {
    match architecture {
        Architecture::X86_64 => Board {
            name: "pc",
            processor: "max",
            bus: "pci",
            // interrupt setup by ACPI takes a third of a second per device
            words: &["console=ttyS0", "acpi=noirq"],
        },
        Architecture::Arm64 => Board {
            name: "virt",
            processor: "cortex-a57",
            bus: "device",
            words: &["console=ttyAMA0"],
        },
        Architecture::Arm => Board {
            name: "virt,highmem=off",
            processor: "cortex-a15",
            bus: "device",
            words: &["console=ttyAMA0"],
        },
    }
}

/// The load address of the initramfs of a machine with a TPM.
const INITRAMFS_ADDRESS: u64 = 128 << 20;

/// The arguments; sockets and kernel are in `directory`.
pub(super) fn arguments(
    machine: &Machine,
    directory: &Path,
    console: Console,
) -> Result<Vec<String>> {
    let inside = |name: &str| directory.join(name).display().to_string();
    let board = board(machine.kernel.architecture());
    let mut words = words(machine);
    let virtio = |device: &str| format!("virtio-{device}-{}", board.bus);
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |option: &str, value: &str| {
        arguments.extend([option.to_owned(), value.to_owned()]);
    };
    for (option, value) in [
        ("-machine", if machine.secure_boot.is_some() { "q35,smm=on" } else { board.name }),
        ("-accel", "tcg"),
        ("-cpu", board.processor),
        ("-display", "none"),
        ("-device", &virtio("rng")),
        ("-device", &virtio("serial")),
        ("-serial", "chardev:console"),
    ] {
        add(option, value);
    }
    if machine.clock == Clock::Instructions {
        add("-icount", "shift=0");
    }
    add("-m", &machine.memory.to_string());
    let directly = machine.secure_boot.is_none();
    match (machine.initramfs.as_ref().filter(|_| directly), machine.tpm) {
        (None, _) => {}
        (Some(path), Tpm::Absent) => add("-initrd", &path.display().to_string()),
        (Some(path), Tpm::Version2) => {
            // QEMU 7.2 loads an -initrd over the ACPI tables, which are larger with a TPM
            let size =
                fs::metadata(path).with_context(|| format!("stat {}", path.display()))?.len();
            let file = value(path);
            let address = INITRAMFS_ADDRESS;
            add("-device", &format!("loader,force-raw=on,addr={address:#x},file={file}"));
            words.push(format!("initrdmem={address:#x},{size}"));
            words.push(format!("memmap={}K${address:#x}", size.div_ceil(4096) * 4));
        }
    }
    match console {
        Console::File => {
            add("-chardev", &format!("file,id=console,path={}", inside("console")));
        }
        Console::Terminal => add("-chardev", "stdio,id=console,mux=on,signal=off"),
    }
    add("-chardev", &format!("socket,id=agent,path={}", inside("agent")));
    add("-device", &format!("virtserialport,chardev=agent,name={}", lab_agent::PORT));
    let mut disks: Vec<_> = machine.disks.iter().enumerate().collect();
    if machine.kernel.architecture() != Architecture::X86_64 {
        // Linux enumerates virtio's memory-mapped devices in the opposite order
        disks.reverse();
    }
    for (index, (path, disk)) in disks {
        let option = match disk {
            Disk::Discarded => "snapshot=on",
            Disk::Kept => "snapshot=off",
            Disk::ReadOnly => "readonly=on",
        };
        let file = value(path);
        add("-drive", &format!("if=none,id=disk{index},format=raw,{option},file={file}"));
        add("-device", &format!("{},drive=disk{index}", virtio("blk")));
    }
    if machine.tpm == Tpm::Version2 {
        add("-chardev", &format!("socket,id=tpm,path={}", inside("tpm.socket")));
        add("-tpmdev", "emulator,id=tpm,chardev=tpm");
        add("-device", "tpm-tis,tpmdev=tpm");
    }
    if directly {
        add("-kernel", &inside("kernel"));
        add("-append", &words.join(" "));
    } else {
        arguments.extend(firmware::arguments(directory));
    }
    arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    Ok(arguments)
}

/// The words of the kernel's command line, except those that depend on the initramfs's address.
pub(super) fn words(machine: &Machine) -> Vec<String> {
    let board = board(machine.kernel.architecture()).words;
    let fixed = WORDS.iter().chain(board).map(|&word| word.to_owned());
    fixed.chain(machine.append.iter().cloned()).collect()
}

/// A path as an option's value: commas are doubled.
fn value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
