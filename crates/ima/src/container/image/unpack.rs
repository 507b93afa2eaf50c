//! Compression that libraries undo.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};
use ima_format::erofs::{Algorithm, Unpack};
use liblzma::stream::Stream;

/// The most that is unpacked at once, 12 MiB, and the decoder's own memory.
const LZMA_MEMORY_LIMIT: u64 = 32 << 20;
/// log2 of the largest window, which is no larger than the data that is unpacked at once.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// zlib, liblzma and libzstd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Libraries;

impl Unpack for Libraries {
    fn unpack(&self, algorithm: Algorithm, packed: &[u8], unpacked: &mut [u8]) -> bool {
        match algorithm {
            Algorithm::MicroLzma => micro_lzma(packed, unpacked).is_some(),
            Algorithm::Deflate => deflate(packed, unpacked).is_some(),
            Algorithm::Zstd => zstd(packed, unpacked).is_some(),
            Algorithm::Lz4 => false,
        }
    }
}

/// Unpacks MicroLZMA: with its first byte in a header, and zero in its place, it is `.lzma`.
fn micro_lzma(packed: &[u8], unpacked: &mut [u8]) -> Option<()> {
    let (first, rest) = packed.split_first()?;
    let dictionary = u32::try_from(unpacked.len()).ok()?.max(4096);
    let mut header = vec![!first];
    header.extend(dictionary.to_le_bytes());
    // of unknown length: how much is asked for, is known
    header.extend([0xff; 8]);
    header.push(0);
    let stream = Stream::new_lzma_decoder(LZMA_MEMORY_LIMIT).ok()?;
    let source = header.as_slice().chain(rest);
    liblzma::bufread::XzDecoder::new_stream(source, stream).read_exact(unpacked).ok()
}

fn deflate(packed: &[u8], unpacked: &mut [u8]) -> Option<()> {
    let mut inflate = Decompress::new(false);
    loop {
        let (taken, made) = (inflate.total_in(), inflate.total_out());
        let source = packed.get(usize::try_from(taken).ok()?..)?;
        let target = unpacked.get_mut(usize::try_from(made).ok()?..)?;
        if target.is_empty() {
            return Some(());
        }
        let status = inflate.decompress(source, target, FlushDecompress::None).ok()?;
        let stuck = (inflate.total_in(), inflate.total_out()) == (taken, made);
        if stuck || status == Status::StreamEnd {
            return (inflate.total_out() == unpacked.len() as u64).then_some(());
        }
    }
}

fn zstd(packed: &[u8], unpacked: &mut [u8]) -> Option<()> {
    let mut decoder = zstd::Decoder::with_buffer(packed).ok()?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).ok()?;
    decoder.read_exact(unpacked).ok()
}
