//! Unpacking of compressed streams, within bounds of memory, and packing.
//!
//! Through the libraries that rpm and tar use themselves: liblzma, libzstd and libbz2, and
//! zlib's port to Rust for gzip.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;

use ima_format::kind::Compression;

/// The memory limit for unpacking xz and lzma: as much as rpm allows (`rpmio/rpmio.cc`).
const LZMA_MEMORY_LIMIT: u64 = 100 << 20;

/// Unpacks `source`; several streams one after the other are treated as one, as the
/// programs do that make them. Memory is bounded: by 100 MiB for xz and lzma, by the library's
/// default window of 128 MiB for Zstandard; a stream that wants more is an error.
///
/// # Errors
/// If no decoder can be set up; reading gives an error of kind `InvalidInput` or
/// `InvalidData` where the stream is malformed, `UnexpectedEof` where it is cut.
pub fn decoder<'a>(
    compression: Compression,
    source: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let source = BufReader::with_capacity(1 << 16, source);
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            lzma(source, liblzma::stream::Stream::new_stream_decoder(LZMA_MEMORY_LIMIT, flags))?
        }
        Compression::Lzma => {
            lzma(source, liblzma::stream::Stream::new_lzma_decoder(LZMA_MEMORY_LIMIT))?
        }
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(source)?),
    })
}

/// Unpacks one stream, and leaves what follows it to `source`: as the kernel does with the archives of an
/// initramfs. The bounds are those of [`decoder`].
///
/// # Errors
/// As [`decoder`].
pub(crate) fn single<'a>(
    compression: Compression,
    source: &'a mut (dyn BufRead + Send),
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(source)),
        Compression::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(source)),
        Compression::Xz => {
            lzma(source, liblzma::stream::Stream::new_stream_decoder(LZMA_MEMORY_LIMIT, 0))?
        }
        Compression::Lzma => {
            lzma(source, liblzma::stream::Stream::new_lzma_decoder(LZMA_MEMORY_LIMIT))?
        }
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(source)?.single_frame()),
    })
}

fn lzma<'a>(
    source: impl BufRead + Send + 'a,
    stream: Result<liblzma::stream::Stream, liblzma::stream::Error>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream?)))
}

/// The size of a block of xz: blocks are packed side by side.
const XZ_BLOCK: u64 = 16 << 20;

/// Threads that pack, at most: with xz each takes some 100 MiB.
const PACKING_THREADS: u32 = 16;

/// Compresses the bytes that are written to it. The same input gives the same bytes, however many threads
/// work at it.
pub struct Encoder<W: Write>(Packer<W>);

enum Packer<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Lzma(liblzma::write::XzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> std::fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl<W: Write> Encoder<W> {
    /// Packs into `sink` as the programs do without an option; `None` passes the bytes on.
    /// xz and Zstandard use up to `jobs` threads, and at most 16.
    ///
    /// # Errors
    /// If no encoder can be set up.
    pub fn new(compression: Option<Compression>, sink: W, jobs: NonZeroUsize) -> io::Result<Self> {
        let threads = u32::try_from(jobs.get()).unwrap_or(u32::MAX).min(PACKING_THREADS);
        Ok(Self(match compression {
            None => Packer::None(sink),
            Some(Compression::Gzip) => {
                let level = flate2::Compression::default();
                Packer::Gzip(flate2::write::GzEncoder::new(sink, level))
            }
            Some(Compression::Bzip2) => {
                Packer::Bzip2(bzip2::write::BzEncoder::new(sink, bzip2::Compression::best()))
            }
            Some(Compression::Xz) => {
                let mut stream = liblzma::stream::MtStreamBuilder::new();
                stream.preset(6).block_size(XZ_BLOCK).check(liblzma::stream::Check::Crc64);
                let stream = stream.threads(threads).encoder()?;
                Packer::Lzma(liblzma::write::XzEncoder::new_stream(sink, stream))
            }
            Some(Compression::Lzma) => {
                let options = liblzma::stream::LzmaOptions::new_preset(6)?;
                let stream = liblzma::stream::Stream::new_lzma_encoder(&options)?;
                Packer::Lzma(liblzma::write::XzEncoder::new_stream(sink, stream))
            }
            Some(Compression::Zstd) => {
                let mut encoder = zstd::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                // one thread of its own at least: without any the bytes are others
                encoder.multithread(threads)?;
                Packer::Zstd(encoder)
            }
        }))
    }

    /// Writes the rest, and gives the sink back.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Packer::None(sink) => Ok(sink),
            Packer::Gzip(encoder) => encoder.finish(),
            Packer::Bzip2(encoder) => encoder.finish(),
            Packer::Lzma(encoder) => encoder.finish(),
            Packer::Zstd(encoder) => encoder.finish(),
        }
    }

    fn inner(&mut self) -> &mut dyn Write {
        match &mut self.0 {
            Packer::None(sink) => sink,
            Packer::Gzip(encoder) => encoder,
            Packer::Bzip2(encoder) => encoder,
            Packer::Lzma(encoder) => encoder,
            Packer::Zstd(encoder) => encoder,
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What a program makes of `content` on standard input; nothing where it is missing.
    fn packed(program: &[&str], content: &[u8]) -> Option<Vec<u8>> {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            assert!(std::env::var_os("CI").is_none(), "{} is not installed", program[0]);
            eprintln!("SKIPPED: {} is not installed", program[0]);
            return None;
        };
        let mut stdin = child.stdin.take().unwrap();
        let content = content.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&content).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Some(output.stdout)
    }

    const PROGRAMS: &[(Compression, &[&str])] = &[
        (Compression::Gzip, &["gzip", "-c"]),
        (Compression::Bzip2, &["bzip2", "-c"]),
        (Compression::Xz, &["xz", "-c"]),
        (Compression::Lzma, &["xz", "-c", "--format=lzma"]),
        (Compression::Zstd, &["zstd", "-c", "-q"]),
    ];

    fn content() -> Vec<u8> {
        (0..300_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect()
    }

    #[test]
    fn unpacks_what_the_programs_pack() {
        let content = content();
        for (compression, program) in PROGRAMS {
            let Some(packed) = packed(program, &content) else { continue };
            // twice over: the formats that have streams may have several
            let twice = *compression != Compression::Lzma;
            let packed = if twice { packed.repeat(2) } else { packed };
            let mut unpacked = Vec::new();
            decoder(*compression, &packed[..]).unwrap().read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == content.repeat(if twice { 2 } else { 1 }), "{compression}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        let content = content();
        for (compression, program) in PROGRAMS {
            let Some(packed) = packed(program, &content) else { continue };
            let cut = &packed[..packed.len() / 2];
            let read = decoder(*compression, cut).unwrap().read_to_end(&mut Vec::new());
            assert!(read.is_err(), "{compression}");
        }
    }

    #[test]
    fn a_stream_that_wants_too_much_memory_is_refused() {
        // an lzma header with a dictionary of 4 GiB - 1, of unknown length
        let mut lzma = vec![0x5d, 0xff, 0xff, 0xff, 0xff];
        lzma.extend([0xff; 8]);
        lzma.extend([0; 64]);
        let error = decoder(Compression::Lzma, &lzma[..]).unwrap().read(&mut [0; 16]).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn packs_the_same_bytes_with_any_number_of_threads() {
        let content = content();
        let forms = PROGRAMS.iter().map(|(compression, _)| Some(*compression));
        for compression in forms.chain([None]) {
            let packed = [1, 3].map(|jobs| {
                let jobs = NonZeroUsize::new(jobs).unwrap();
                let mut encoder = Encoder::new(compression, Vec::new(), jobs).unwrap();
                encoder.write_all(&content).unwrap();
                encoder.finish().unwrap()
            });
            assert!(packed[0] == packed[1], "{compression:?}");
            let Some(compression) = compression else { continue };
            let mut unpacked = Vec::new();
            decoder(compression, &packed[0][..]).unwrap().read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == content, "{compression}");
        }
    }
}
