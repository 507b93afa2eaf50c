//! Where the default policy ends: it looks at the content of files, not at their names, their
//! owners or their age; and what has no file system that could carry a signature does not run.

use anyhow::Result;
use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::protocol::{Action, Attributes, Credentials, Output, Status};
use lab::scenario::{Enforced, DEFAULT_POLICY};

const OLD: &str = "#!/bin/sh\necho the hole of last year\n";
const NEW: &str = "#!/bin/sh\necho mended\n";

/// Copies a program into memory that has no name, and executes it there; its exit code is the
/// error of `execve`.
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

    fn programs_in_nameless_memory_are_refused(kernel) {
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
        // that it was IMA shows in that whom the policy does not hold may
        guest.execute_as(&Credentials::user(1000), &perl)?.is_allowed();
        Ok(())
    }
}

/// Puts a signed file in another's place, signature and all.
fn replace(guest: &mut Guest, from: &str, to: &str) -> Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    guest.request(Action::Copy { from, to, attributes: Attributes::Kept })?.is_allowed();
    Ok(())
}
