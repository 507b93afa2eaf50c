//! The least time that signing and verifying some files can take here: what the linked
//! OpenSSL, the kernel's reads and its attributes cost, on all cores, without anything around
//! them.
//!
//! `floor KEYSTORE DIRECTORY` prints a JSON object of seconds: the parts `read`, `hash`, `sign`,
//! `verify`, `set` and `get` (an attribute), and of them the sums `signing`, `verifying` and
//! `keeping` (finding that nothing has changed). The files' attributes are overwritten.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, error::Error, io, io::Read, thread};

use ima::digest::{DigestError, Hasher};
use ima::key::store::KeyStore;
use ima::key::Signer;
use ima::sign::Maker;
use ima::verify::{Keyring, Requirement, Rule, Verifier};
use ima::HashAlgorithm;
use ima_format::policy::kernel::KernelVersion;
use rustix::fs::{fgetxattr, fremovexattr, fsetxattr, XattrFlags};
use rustix::io::Errno;

fn main() -> Result<(), Box<dyn Error>> {
    let [_, store, directory] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: floor KEYSTORE DIRECTORY".into());
    };
    let signer = KeyStore::open(Path::new(store))?.ima_signer(&mut |_| Ok(None))?;
    let mut files = Vec::new();
    collect(Path::new(directory), &mut files)?;
    let cores = thread::available_parallelism()?.get();
    // as even a split as can be: by size, dealt out in turn
    files.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let shares: Vec<Vec<&(PathBuf, u64)>> =
        (0..cores).map(|core| files.iter().skip(core).step_by(cores).collect()).collect();

    let read = timed(&shares, |share| {
        let mut buffer = vec![0; 1 << 18];
        for (path, _) in share {
            let mut file = File::open(path)?;
            file.metadata()?.size();
            while file.read(&mut buffer)? == buffer.len() {}
        }
        Ok(())
    })?;
    let hash = timed(&shares, |share| {
        let mut hasher = Hasher::new(HashAlgorithm::Sha256)?;
        let bytes = vec![0; 1 << 18];
        for (_, size) in share {
            for start in (0..*size as usize).step_by(bytes.len()) {
                hasher.update(&bytes[..bytes.len().min(*size as usize - start)])?;
            }
            hasher.finish()?;
        }
        Ok(())
    })?;
    let digest = Hasher::new(HashAlgorithm::Sha256)?.digest(b"abc")?;
    let maker = Maker::of(&signer);
    let mut value = Vec::new();
    maker.session()?.make(&digest, &mut value)?;
    let sign = timed(&shares, |share| {
        let mut session = maker.session()?;
        let mut value = Vec::new();
        share.iter().try_for_each(|_| Ok(session.make(&digest, &mut value)?))
    })?;
    let keyring = Keyring::of_public_key(signer.key_id(), signer.public_key().clone());
    let verify = timed(&shares, |share| {
        let mut verifier = Verifier::new(keyring.clone());
        let rule = Rule::new(Requirement::Signature, KernelVersion::V6_12);
        share.iter().try_for_each(|_| {
            let given = |_| Ok::<_, DigestError>(digest);
            match verifier.verdict(rule, Some(&value), given)?.is_valid() {
                true => Ok(()),
                false => Err("not a valid signature".into()),
            }
        })
    })?;
    let keep = timed(&shares, |share| {
        let mut session = maker.session()?;
        share.iter().try_for_each(|_| match session.keeps(&value, &digest)? {
            true => Ok(()),
            false => Err("not this key's signature".into()),
        })
    })?;
    let open = timed(&shares, |share| {
        share.iter().try_for_each(|(path, _)| {
            File::open(path)?;
            Ok(())
        })
    })?;
    let clear = || {
        files.iter().try_for_each(|(path, _)| match fremovexattr(File::open(path)?, NAME) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(error) => Err(io::Error::from(error)),
        })
    };
    let set = timed_after(clear, &shares, |share| {
        share.iter().try_for_each(|(path, _)| {
            Ok(fsetxattr(File::open(path)?, NAME, &value, XattrFlags::empty())?)
        })
    })?;
    let get = timed(&shares, |share| {
        let mut value = [0; 1024];
        share.iter().try_for_each(|(path, _)| {
            fgetxattr(File::open(path)?, NAME, &mut value[..])?;
            Ok(())
        })
    })?;
    let (set, get) = ((set - open).max(0.0), (get - open).max(0.0));
    let parts = [
        ("read", read),
        ("hash", hash),
        ("sign", sign),
        ("verify", verify),
        ("set", set),
        ("get", get),
        ("signing", read + hash + sign + set),
        ("verifying", read + hash + get + verify),
        ("keeping", read + hash + get + keep),
    ];
    let parts = parts.map(|(name, seconds)| format!("\"{name}\":{seconds:.4}"));
    println!("{{{}}}", parts.join(","));
    Ok(())
}

type Share<'a> = Vec<&'a (PathBuf, u64)>;
type Work = Result<(), Box<dyn Error + Send + Sync>>;

/// The best time counts.
const RUNS: u32 = 3;
const NAME: &str = "security.ima";

/// The best of some times for all shares, each in a thread of its own.
fn timed(shares: &[Share<'_>], work: impl Fn(&Share<'_>) -> Work + Sync) -> Result<f64, String> {
    timed_after(|| Ok(()), shares, work)
}

/// The same, with something done before each time.
fn timed_after(
    prepare: impl Fn() -> io::Result<()>,
    shares: &[Share<'_>],
    work: impl Fn(&Share<'_>) -> Work + Sync,
) -> Result<f64, String> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        prepare().map_err(|e| e.to_string())?;
        let start = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = shares.iter().map(|share| scope.spawn(|| work(share))).collect();
            for thread in threads {
                thread.join().map_err(|_| "a thread panicked")?.map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(())
        })?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), files)?,
            false => files.push((entry.path(), entry.metadata()?.size())),
        }
    }
    Ok(())
}
