//! Writes a measurement list for benchmarks, and the values of PCR 10 after it as evmctl reads them.
//!
//! `measurement_list COUNT LIST [KEYSTORE]` writes `LIST`, `LIST.sha1` and `LIST.sha256`: `ima-ng` entries with
//! names and digests as a Debian system has them, or `ima-sig` entries, each with a signature of its own.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::thread;

use ima::attest::replay::{extend, zeros};
use ima::digest::Hasher;
use ima::key::store::KeyStore;
use ima::sign::Maker;
use ima::HashAlgorithm;
use ima_format::hex::Hex;
use ima_format::measure::{Endian, Record, Template};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (count, list, store) = match &args[..] {
        [count, list] => (count, list, None),
        [count, list, store] => (count, list, Some(KeyStore::open(Path::new(store))?)),
        _ => return Err("usage: measurement_list COUNT LIST [KEYSTORE]".into()),
    };
    let signer = match &store {
        Some(store) => Some(store.ima_signer(&mut |_| Ok(None))?),
        None => None,
    };
    let maker = signer.as_ref().map(|signer| Maker::of(signer));
    let name = if maker.is_some() { "ima-sig" } else { "ima-ng" };
    let template = Template::of(name.as_bytes()).ok_or(name)?;
    let (mut signatures, mut banks) = (VecDeque::new(), Vec::new());
    for bank in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
        banks.push((Hasher::new(bank)?, zeros(bank)?));
    }
    let mut files = Hasher::new(HashAlgorithm::Sha256)?;
    let mut output = BufWriter::new(File::create(list)?);
    let (mut data, mut bytes) = (Vec::new(), Vec::new());
    let count: u32 = count.parse()?;
    for number in 0..count {
        let name = match number {
            0 => "boot_aggregate\0".to_owned(),
            _ => format!("/usr/lib/x86_64-linux-gnu/libsample{number}.so.{}\0", number % 7),
        };
        let digest = files.digest(&number.to_le_bytes())?;
        if let Some(maker) = maker.as_ref().filter(|_| signatures.is_empty()) {
            signatures = signed(maker, number..count.min(number.saturating_add(CHUNK)))?.into();
        }
        let signature = signatures.pop_front();
        let digest = [b"sha256:\0", digest.as_bytes()].concat();
        data.clear();
        for field in [&digest[..], name.as_bytes()].into_iter().chain(signature.as_deref()) {
            data.extend_from_slice(&u32::try_from(field.len())?.to_le_bytes());
            data.extend_from_slice(field);
        }
        let mut listed = None;
        for (hasher, value) in &mut banks {
            let digest = hasher.digest(&data)?;
            extend(hasher, value, digest.as_bytes())?;
            listed.get_or_insert(digest);
        }
        let listed = listed.ok_or("no bank")?;
        let (digest, endian) = (listed.as_bytes(), Endian::Little);
        bytes.clear();
        Record { pcr: 10, digest, template, data: &data, data_offset: 0, endian }
            .encode_into(&mut bytes);
        output.write_all(&bytes)?;
    }
    output.flush()?;
    for (hasher, value) in &banks {
        let bank = hasher.algorithm();
        let zeros = zeros(bank)?;
        let line = |pcr| {
            let value = if pcr == 10 { value } else { &zeros };
            format!("PCR-{pcr:02}:{}\n", Hex(value.as_bytes()))
        };
        fs::write(format!("{list}.{bank}"), (0..24).map(line).collect::<String>())?;
    }
    Ok(())
}

/// Signatures that are made at once, on all CPUs.
const CHUNK: u32 = 1 << 14;

/// Signatures of the files with these numbers.
fn signed(maker: &Maker<'_>, numbers: Range<u32>) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let numbers: Vec<_> = numbers.collect();
    let share = numbers.len().div_ceil(thread::available_parallelism()?.get()).max(1);
    let work = |numbers: &[u32]| -> Result<Vec<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        let (mut session, mut files) = (maker.session()?, Hasher::new(HashAlgorithm::Sha256)?);
        let mut signatures = Vec::new();
        for number in numbers {
            let mut signature = Vec::new();
            session.make(&files.digest(&number.to_le_bytes())?, &mut signature)?;
            signatures.push(signature);
        }
        Ok(signatures)
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            numbers.chunks(share).map(|numbers| scope.spawn(move || work(numbers))).collect();
        let mut signatures = Vec::new();
        for thread in threads {
            let made = thread.join().map_err(|_| "a thread panicked")?;
            signatures.extend(made.map_err(|error| error.to_string())?);
        }
        Ok(signatures)
    })
}
