//! The least time that signing some files can take here: what the linked OpenSSL, the
//! kernel's reads and its attribute writes cost, on all cores, without anything around them.
//!
//! `floor KEYSTORE DIRECTORY` prints a JSON object of seconds: `sign`, `hash`, `read`,
//! `attribute`, and their sum, `total`. The files' attributes are overwritten.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, error::Error, io::Read, thread};

use ima::digest::Hasher;
use ima::key::store::KeyStore;
use ima::sign::Labeler;
use ima::HashAlgorithm;
use rustix::fs::{fsetxattr, XattrFlags};

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
    let sign = timed(&shares, |share| {
        let mut session = Labeler::Signature(&signer).session()?;
        let mut value = Vec::new();
        share.iter().try_for_each(|_| Ok(session.label(&digest, &mut value)?))
    })?;
    let mut value = Vec::new();
    Labeler::Signature(&signer).session()?.label(&digest, &mut value)?;
    let opened = timed(&shares, |share| {
        share.iter().try_for_each(|(path, _)| {
            File::open(path)?;
            Ok(())
        })
    })?;
    let set = timed(&shares, |share| {
        share.iter().try_for_each(|(path, _)| {
            Ok(fsetxattr(File::open(path)?, "security.ima", &value, XattrFlags::empty())?)
        })
    })?;
    let attribute = (set - opened).max(0.0);
    let total = read + hash + sign + attribute;
    println!(
        "{{\"sign\":{sign:.4},\"hash\":{hash:.4},\"read\":{read:.4},\
         \"attribute\":{attribute:.4},\"total\":{total:.4}}}"
    );
    Ok(())
}

type Share<'a> = Vec<&'a (PathBuf, u64)>;
type Work = Result<(), Box<dyn Error + Send + Sync>>;

/// The best of three times for all shares, each in a thread of its own.
fn timed(shares: &[Share<'_>], work: impl Fn(&Share<'_>) -> Work + Sync) -> Result<f64, String> {
    let mut best = f64::INFINITY;
    for _ in 0..3 {
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
