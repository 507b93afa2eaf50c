//! The limits of the default policy: it checks the content of files, not their names, owners or age; and
//! files on file systems without signatures cannot be executed.

use anyhow::Result;
use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::protocol::{Action, Attributes, Credentials, Output, Status};
use lab::scenario::{Enforced, DEFAULT_POLICY};

const OLD: &str = "#!/bin/sh\necho the hole of last year\n";
const NEW: &str = "#!/bin/sh\necho mended\n";

/// Copies a program into a memory file without a name, and executes it there; the exit code is the errno
/// of `execve`.
const NAMELESS: &str = r#"
my $name = "nameless";
my $fd = syscall(319, $name, 0); # memfd_create, on x86-64
open(my $memory, ">&=", $fd) or exit 1;
open(my $program, "<:raw", "/usr/bin/true") or exit 1;
local $/;
syswrite($memory, <$program>) or exit 1;
exec {"/proc/self/fd/$fd"} "true";
exit $! + 0;
"#;

on_each_kernel! {
    fn names_owners_and_age_are_not_looked_at(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.write("/opt/tool", NEW, 0o755)?;
        root.write("/opt/tool-of-last-year", OLD, 0o755)?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        assert_eq!(guest.execute(&["/opt/tool"])?.is_allowed().text(), "mended\n");

        replace(&mut guest, "/opt/tool-of-last-year", "/opt/tool")?;
        let execution = guest.execute(&["/opt/tool"])?;
        assert_eq!(execution.is_allowed().text(), "the hole of last year\n");

        replace(&mut guest, "/usr/bin/true", "/opt/another-name")?;
        guest.execute(&["/opt/another-name"])?.is_allowed();

        let path = "/opt/another-name".to_owned();
        guest.request(Action::ChangeOwner { path, uid: 1000, gid: 1000 })?.is_allowed();
        guest.execute(&["/opt/another-name"])?.is_allowed();
        Ok(())
    }

    fn programs_in_nameless_memory_are_denied(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.install("/usr/bin/perl", "perl-base")?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        guest.mount("proc", "proc", "/proc")?;

        let perl = ["/usr/bin/perl", "-e", NAMELESS];
        let refused = guest.execute(&perl)?;
        let eacces = Status::Code(13);
        assert!(matches!(&refused.outcome, Ok(Output::Exited { status, .. }) if *status == eacces), "{refused}");
        // other users, to whom the policy does not apply, may execute it: IMA denied it
        guest.execute_as(&Credentials::user(1000), &perl)?.is_allowed();
        Ok(())
    }
}

/// Replaces a file with a signed one, including the signature.
fn replace(guest: &mut Guest, from: &str, to: &str) -> Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    guest.request(Action::Copy { from, to, attributes: Attributes::Kept })?.is_allowed();
    Ok(())
}
