//! Other rights than the agent's own, and children that take them on.

use std::fs::File;
use std::io::{self, Read, Write};

use lab_agent::Credentials;
use rustix::process::{Gid, Uid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::Outcome;

/// Takes on the credentials, for good. Group before user: afterwards it is not allowed.
pub(crate) fn assume(credentials: &Credentials) -> io::Result<()> {
    let gid = |id: u32| Gid::from_raw(id);
    let uid = |id: u32| Uid::from_raw(id);
    let groups: Vec<Gid> = credentials.groups.iter().copied().map(gid).collect();
    thread::set_thread_groups(&groups)?;
    let ids = credentials.gid;
    thread::set_thread_res_gid(gid(ids.real), gid(ids.effective), gid(ids.saved))?;
    // Without this, the permitted set is emptied when no id is 0 any more.
    thread::set_keep_capabilities(credentials.capabilities.is_some())?;
    let ids = credentials.uid;
    thread::set_thread_res_uid(uid(ids.real), uid(ids.effective), uid(ids.saved))?;
    if let Some(mask) = credentials.capabilities {
        let set = CapabilitySet::from_bits_retain(mask);
        let sets =
            CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
        thread::set_capabilities(None, sets)?;
    }
    Ok(())
}

/// Does the work in a child, so that nothing of what it takes on stays.
pub(crate) fn in_child(work: impl FnOnce() -> Outcome) -> io::Result<Outcome> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the agent has one thread, so the child may allocate and use all of std.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let outcome = work();
            let written = serde_json::to_vec(&outcome)
                .map_err(io::Error::from)
                .and_then(|bytes| File::from(writer).write_all(&bytes));
            // SAFETY: ends the child without running what the agent left for its own end.
            unsafe { libc::_exit(i32::from(written.is_err())) }
        }
        child => {
            drop(writer);
            let mut bytes = Vec::new();
            File::from(reader).read_to_end(&mut bytes)?;
            rustix::process::waitpid(
                rustix::process::Pid::from_raw(child),
                rustix::process::WaitOptions::empty(),
            )?;
            Ok(serde_json::from_slice(&bytes)?)
        }
    }
}
