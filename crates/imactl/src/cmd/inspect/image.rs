//! `imactl inspect` for images of file systems

use anyhow::{Context, Result};
use ima::container::image::{self, Image};
use ima::container::tar::{self, Archive, TarError};

use super::report::Reporter;
use super::InspectArgs;
use crate::container::check_place;
use crate::output::{Name, Output};
use crate::progress::Bar;
use crate::Outcome;

impl InspectArgs {
    /// Shows what the files in images carry.
    pub(super) fn image(&self, output: &mut Output) -> Result<Outcome> {
        check_place(self.files.place.resolve())?;
        let bar = Bar::new("inspecting", output);
        let mut reporter = Reporter::new(self.files.raw);
        for path in &self.files.tree.resolve()?.roots {
            let tree = self.files.tree.resolve()?;
            let context = || path.display().to_string();
            if image::is_squashfs(path).with_context(context)? {
                let max_sparse = self.kind.max_sparse();
                let source = image::squashfs_as_tar(path, max_sparse).with_context(context)?;
                let mut archive = Archive::open(source, tree.selection, tree.jobs)
                    .map_err(|source| image::squashfs_error(TarError::Read { offset: 0, source }))
                    .with_context(context)?;
                archive.max_sparse = max_sparse;
                let told = tar::inspect(archive, &bar, &mut |report| {
                    let name = Name { container: Some(path), path: &report.path };
                    bar.suspend(|| match report.outcome {
                        Ok(inspection) => {
                            reporter.inspection(name, report.size, &inspection, output)
                        }
                        Err(error) => reporter.failures.tell(name, &error, None, output),
                    })
                });
                told.map_err(image::squashfs_error).with_context(context)?;
                continue;
            }
            let inspected = Image::open(path, tree.selection, tree.jobs).and_then(|image| {
                image.limit_zeros(self.kind.max_sparse());
                image::inspect(&image, &bar, &mut |report| {
                    let name = Name { container: Some(path), path: &report.path };
                    bar.suspend(|| reporter.inspection(name, report.size, &report.outcome, output))
                })
            });
            inspected.with_context(|| path.display().to_string())?;
        }
        bar.finish();
        Ok(reporter.conclude())
    }
}
