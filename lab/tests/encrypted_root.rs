//! A root that the TPM unlocks. The initramfs unlocks it; then imactl-init loads EVM's HMAC key, which also
//! needs the TPM, and the policy, which measures and appraises.

use std::path::Path;

use anyhow::Result;
use lab::host;
use lab::image::{Image, Tree};
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Disk, Guest, Machine, Tpm};
use lab::on_each_kernel;
use lab::programs;
use lab::protocol::{Action, Errno};
use lab::scenario::DEFAULT_POLICY;

const DISK_SIZE: u64 = 96 << 20;
const ROOT_SIZE: u64 = 64 << 20;

/// The library directory; cryptsetup and its plugin open some libraries with dlopen.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const OPENED: [(&str, &str); 6] = [
    ("cryptsetup/libcryptsetup-token-systemd-tpm2.so", "systemd"),
    ("libtss2-esys.so.0", "libtss2-esys-3.0.2-0"),
    ("libtss2-mu.so.0", "libtss2-mu0"),
    ("libtss2-rc.so.0", "libtss2-rc0"),
    ("libtss2-tcti-device.so.0", "libtss2-tcti-device0"),
    ("libgcc_s.so.1", "libgcc-s1"),
];

/// As on a machine's first boot: encrypts the disk, seals a key to PCR 7, and fills the disk.
const ENROLL: &str = "set -e
export PATH=/usr/bin:/usr/sbin
printf secret >/tmp/secret
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vda /tmp/secret
PASSWORD=secret systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=7 /dev/vda
cryptsetup open --token-only /dev/vda root
busybox dd if=/dev/vdb of=/dev/mapper/root bs=1M
cryptsetup close root
busybox sync";

/// As in docs/evm.md: a trusted key, and EVM's key, encrypted with it.
const MAKE_KEYS: &str = "set -e
export PATH=/usr/bin TPM2TOOLS_TCTI=device:/dev/tpmrm0
tpm2 createprimary -Q -C o -c /tmp/parent
tpm2 evictcontrol -Q -C o -c /tmp/parent 0x81000001
keyctl add trusted kmk-trusted 'new 32 keyhandle=0x81000001' @u >&2
keyctl add encrypted evm-key 'new trusted:kmk-trusted 64' @u >&2
for key in 'trusted kmk-trusted' 'encrypted evm-key'; do
    keyctl pipe $(keyctl search @u $key)
    echo
done";

/// A machine that booted differently has another value in PCR 7.
const OTHERWISE: &str = "set -e
export PATH=/usr/bin:/usr/sbin
tpm2 pcrextend 7:sha256=0100000000000000000000000000000000000000000000000000000000000000
if cryptsetup open --token-only /dev/vda root; then exit 9; fi";

const UNLOCK: &str = "/usr/sbin/cryptsetup open --token-only /dev/vda root";

fn initramfs(store: &KeyStore) -> Result<Image> {
    let mut measure = programs::imactl()?;
    let measure = host::run(measure.args(["policy", "default", "--kind", "measure"]))?.stdout;
    let policy = format!("{DEFAULT_POLICY}{}", String::from_utf8(measure)?);
    let tree = Tree::small_initramfs(store, &policy)?;
    tree.take(programs::imactl_init()?, "/usr/bin/imactl-init")?;
    tree.write("/etc/keys/x509_evm.der", store.evm_certificate()?, 0o644)?;
    for (program, package) in [
        ("/usr/bin/busybox", "busybox-static"),
        ("/usr/sbin/cryptsetup", "cryptsetup-bin"),
        ("/usr/bin/systemd-cryptenroll", "systemd"),
        ("/usr/bin/tpm2", "tpm2-tools"),
        ("/usr/bin/keyctl", "keyutils"),
    ] {
        tree.install(program, package)?;
    }
    for (name, package) in OPENED {
        tree.install(&format!("{LIBRARIES}/{name}"), package)?;
    }
    tree.initramfs()
}

fn shell(guest: &mut Guest, script: &str) -> Result<lab::machine::Observation> {
    guest.execute(&["/usr/bin/busybox", "sh", "-c", script])
}

on_each_kernel! {
    fn a_root_that_the_tpm_unlocks_is_measured_and_enforced(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let initramfs = initramfs(&store)?;
        let root = Tree::small_root()?;
        store.sign_with(&["--evm"], root.directory())?;
        root.copy("/usr/bin/true", "/opt/unsigned")?;
        let root = root.ext4(ROOT_SIZE)?;
        let disk = Image::blank(DISK_SIZE)?;
        let tpm = tempfile::tempdir()?;
        let machine = |kernel: &Kernel| -> Result<Machine> {
            let machine = Machine::new(kernel).trusting(&store.system_certificate()?);
            Ok(machine.initramfs(&initramfs).tpm(Tpm::Version2).tpm_state(tpm.path()))
        };

        let first = machine(kernel)?.disk(&disk, Disk::Kept).disk(&root, Disk::Discarded);
        let mut guest = first.boot()?;
        shell(&mut guest, ENROLL)?.exits(0);
        let made = shell(&mut guest, MAKE_KEYS)?;
        made.exits(0);
        let keys: Vec<_> = made.text().lines().map(str::to_owned).collect();
        shell(&mut guest, OTHERWISE)?.exits(0);
        guest.power_off()?;

        let mut guest = machine(kernel)?.disk(&disk, Disk::Discarded).boot()?;
        shell(&mut guest, UNLOCK)?.exits(0);
        guest.mount("/dev/mapper/root", "ext4", "/sysroot")?.is_allowed();
        for (name, blob) in ["kmk-trusted", "evm-trusted"].iter().zip(&keys) {
            let (path, content) = (format!("/etc/keys/{name}.blob"), blob.as_bytes().into());
            guest.request(Action::Write { path, content, mode: 0o600 })?.is_allowed();
        }
        guest.execute(&["/usr/bin/imactl-init", "/sysroot"])?.exits(0);
        // the HMAC key and the certificate
        assert_eq!(guest.read("/sys/kernel/security/evm")?.text().trim(), "3");
        let refusal = guest.switch_root("/sysroot", "/sbin/init")?;
        assert!(refusal.is_none(), "{refusal:?}");
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        is_measured(&mut guest)
    }
}

/// Checks that the list has the programs of the root and none of the initramfs, and replays to PCR 10.
fn is_measured(guest: &mut Guest) -> Result<()> {
    let list = guest.read("/sys/kernel/security/ima/ascii_runtime_measurements")?.text();
    assert!(list.contains(" /usr/bin/true 0302"), "{list}");
    assert!(!list.contains("cryptsetup"), "{list}");
    let place = tempfile::tempdir()?;
    let write = |name: &str, content: &[u8]| std::fs::write(place.path().join(name), content);
    let register = guest.read("/sys/class/tpm/tpm0/pcr-sha256/10")?.text();
    write("pcrs", format!("PCR-10: {register}").as_bytes())?;
    let list = guest.read("/sys/kernel/security/ima/binary_runtime_measurements")?;
    write("list", list.content())?;
    let file = |name: &str| place.path().join(name);
    verify(&file("list"), &file("pcrs"))
}

fn verify(list: &Path, registers: &Path) -> Result<()> {
    let mut imactl = programs::imactl()?;
    imactl.args(["log", "verify", "--pcrs"]).arg(format!("sha256,{}", registers.display()));
    host::run(imactl.arg(list)).map(drop)
}
