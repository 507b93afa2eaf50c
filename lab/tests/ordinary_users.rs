//! A rule with `euid=0` also applies to processes that can become root: with `CAP_SETUID` the real and the
//! saved ID are compared as well (`ima_match_rules`).

use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Credentials, Errno, Ids, CAP_SETGID, CAP_SETUID};
use lab::scenario::{Enforced, DEFAULT_POLICY};

const USER: u32 = 1000;

on_each_kernel! {
    fn ordinary_users_are_not_held(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        let user = Credentials::user(USER);
        let ids = |real, effective, saved| Credentials {
            uid: Ids { real, effective, saved },
            ..user.clone()
        };
        let with = |credentials: &Credentials, capabilities| Credentials {
            capabilities: Some(capabilities),
            ..credentials.clone()
        };
        let cases = [
            ("an ordinary user", user.clone(), false),
            ("one in the group of root", Credentials { gid: Ids::all(0), ..user.clone() }, false),
            ("one who can become any user", with(&user, CAP_SETUID), false),
            ("a set-uid program", ids(USER, 0, 0), true),
            ("root as a user for a while", ids(0, USER, 0), false),
            ("the same with CAP_SETUID", with(&ids(0, USER, USER), CAP_SETUID), true),
            ("the saved id with CAP_SETUID", with(&ids(USER, USER, 0), CAP_SETUID), true),
            ("the saved id with CAP_SETGID", with(&ids(USER, USER, 0), CAP_SETGID), false),
            ("root without capabilities", with(&ids(0, 0, 0), 0), true),
        ];
        for (index, (who, credentials, held)) in cases.into_iter().enumerate() {
            // a new file for each case: the kernel caches its verdict per inode
            let program = format!("/opt-{index}");
            guest.copy("/usr/bin/true", &program)?.is_allowed();
            let execution = guest.execute_as(&credentials, &[&program])?;
            println!("{who}"); // printed if the test fails
            if held {
                execution.is_denied(Errno::EACCES, "IMA-signature-required");
            } else {
                execution.is_allowed();
            }
        }
        Ok(())
    }
}
