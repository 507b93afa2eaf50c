//! `imactl manifest create`

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use ima::attest::manifest::{absolute, of_source, Describe, Expected, Manifest};
use ima::container::initramfs::Initramfs;
use ima::container::rpm::{Directories, PackageSummary, Packages};
use ima::container::{detect, AnyContainer, Report, Selection, MAX_SPARSE};
use ima::preflight::{self, Source};
use ima::HashAlgorithm;
use ima_format::kind::Kind;
use ima_format::tar::AfterEnd;

use super::{read, write_manifest, TrustArgs};
use crate::args::{jobs, SignerArgs};
use crate::error::{with_causes, Context, Result};
use crate::inputs::Inputs;
use crate::output::{count, Level, Name, Output, Style};
use crate::progress::Bar;
use crate::report::{self, Printer, Results};
use crate::Outcome;

/// List the files of roots and packages with their digests
///
/// A root is a directory, a tar archive or an image: its files are listed by their paths below it, as the
/// kernel sees them when it is the root file system. Packages are listed by the digests in their headers,
/// which are not compared with the payload here. The result is JSON lines sorted by path, the same for the
/// same files (docs/json.md has the fields). With --key or --keys it is signed: in a DSSE envelope with an in-toto
/// statement. Nothing is written if a file cannot be read: the exit status is
/// 2 then.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Root directories, tar archives, images, disks, container images, RPM packages, with --initramfs also
    /// initramfs images
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Treat directories as collections of RPM packages
    #[arg(short, long)]
    recursive: bool,
    /// Treat files as initramfs images: cpio archives (newc) one after the other, each compressed or not
    #[arg(long, conflicts_with_all = ["recursive", "partition"])]
    initramfs: bool,
    /// The algorithm of the digests, which is the one that ima_hash= sets [files of packages: the package's]
    #[arg(long, value_name = "ALGORITHM", default_value = "sha256")]
    hash: HashAlgorithm,
    /// Only files that match a glob; a glob with a / is matched against the path below PATH, any
    /// other against the file name
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Skip files and directories that match a glob
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// The partition of a disk that has the root, by number, label or PARTUUID [default: the only one with a file
    /// system that is supported]
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Leave out files that this manifest has with the same digests
    #[arg(long, value_name = "MANIFEST")]
    base: Option<PathBuf>,
    /// Write the result here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Number of worker threads [default: number of CPUs; maximum 1024]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    signer: SignerArgs,
}

impl CreateArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let selection = Selection::new(&self.include, &self.exclude)?;
        let base = self.base.as_deref().map(|base| read(base, &self.trust, output));
        let base = base.transpose()?.unwrap_or_default();
        let (mut manifest, mut packages, mut failed) = (Manifest::default(), Vec::new(), 0);
        for path in &self.paths {
            let is_directory = path.is_dir();
            let kind = match is_directory {
                true if self.recursive => Kind::Rpm,
                false if self.initramfs => Kind::Image,
                _ => detect(path).at(path)?.kind,
            };
            match kind {
                Kind::Rpm => packages.push(path.clone()),
                _ => failed += self.root(path, &selection, &mut manifest, output)?,
            }
        }
        if !packages.is_empty() {
            failed += self.packages(packages, selection, &mut manifest, output)?;
        }
        if failed > 0 {
            let line = format!("{} not read: no manifest written", count(failed, "file"));
            output.complain(Style::Bad, "error:", &line);
            return Ok(Outcome::Failed);
        }
        manifest.0.retain(|path, expected| {
            base.0.get(path).map_or(true, |known| known.digests != expected.digests)
        });
        write_manifest(&manifest, &self.signer, self.output.as_deref(), output)?;
        if self.output.is_some() {
            output.line(Level::Normal, count(manifest.0.len() as u64, "file"))?;
        }
        Ok(Outcome::Good)
    }

    /// Adds the files of a root; returns the number of files that cannot be read.
    fn root(
        &self,
        path: &Path,
        selection: &Selection,
        manifest: &mut Manifest,
        output: &mut Output,
    ) -> Result<u64> {
        let source = self.open(path).at(path)?;
        let bar = Bar::new("hashing", output);
        let (files, unread) = of_source(&*source, selection, self.hash, jobs(self.jobs), &bar);
        bar.finish();
        for (path, expected) in files.0 {
            manifest.add(&path, expected);
        }
        for unread in &unread {
            let name = Name { container: Some(path), part: None, path: &unread.path };
            let text = format!("{name}: {}", with_causes(&unread.error));
            output.complain(Style::Bad, "error:", &text);
        }
        Ok(unread.len() as u64)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Source>> {
        match self.initramfs && !path.is_dir() {
            true => Ok(Box::new(Initramfs::open(path)?)),
            false => Ok(preflight::open(path, self.partition.as_deref())?),
        }
    }

    /// Adds the files of packages; returns the number of packages and files that cannot be read.
    fn packages(
        &self,
        roots: Vec<PathBuf>,
        selection: Selection,
        manifest: &mut Manifest,
        output: &mut Output,
    ) -> Result<u64> {
        let directories = match self.recursive {
            true => Directories::Packages,
            false => Directories::Refused,
        };
        let packages = Packages::new(roots, directories);
        let inputs = Inputs {
            kind: Kind::Rpm,
            containers: vec![AnyContainer::Packages(packages)],
            selection,
            jobs: jobs(self.jobs),
            max_sparse: MAX_SPARSE,
            after_end: AfterEnd::Refuse,
        };
        let mut collector = Collector { manifest, failed: 0 };
        let totals =
            report::run(&Describe, inputs, Results::None, "reading", output, &mut collector)?;
        Ok(collector.failed + totals.failures.count())
    }
}

/// Collects the files of packages.
struct Collector<'a> {
    manifest: &'a mut Manifest,
    failed: u64,
}

impl Printer<Option<Expected>> for Collector<'_> {
    fn file(
        &mut self,
        _: Name<'_>,
        _: u64,
        _: &Option<Expected>,
        _: &mut Output,
    ) -> (bool, io::Result<()>) {
        (true, Ok(()))
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        files: &[Report<Option<Expected>>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        for file in files {
            match &file.outcome {
                Ok(Some(expected)) => {
                    let packages = vec![package.identity.name.clone()];
                    let expected = Expected { packages, ..expected.clone() };
                    self.manifest.add(&absolute(&file.path), expected);
                }
                Ok(None) => {}
                Err(error) => {
                    self.failed += 1;
                    let name = Name { container: Some(path), part: None, path: &file.path };
                    let text = format!("{name}: {}", with_causes(error));
                    output.complain(Style::Bad, "error:", &text);
                }
            }
        }
        (true, Ok(()))
    }
}
