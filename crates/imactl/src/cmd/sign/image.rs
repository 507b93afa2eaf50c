//! `imactl sign` for images of file systems

use std::path::Path;

use anyhow::{Context, Result};
use ima::container::image::{self, Image, SignOptions};
use ima::sign::Labeler;

use super::SignArgs;
use crate::container::{check_place, Destination};
use crate::output::{Name, Output};
use crate::progress::Bar;
use crate::Outcome;

impl SignArgs {
    /// Signs the files in images.
    pub(super) fn image(&self, output: &mut Output) -> Result<Outcome> {
        check_place(self.files.place.resolve())?;
        self.files.with_labeler(output, |labeler, output| {
            let images = self.files.tree.resolve()?.roots;
            let mut outcome = Outcome::Good;
            for path in &images {
                outcome = outcome.max(self.sign_image(path, images.len(), labeler, output)?);
            }
            Ok(outcome)
        })
    }

    fn sign_image(
        &self,
        path: &Path,
        count: usize,
        labeler: Labeler<'_>,
        output: &mut Output,
    ) -> Result<Outcome> {
        let destination = match self.files.dry_run {
            true => Destination::Nowhere,
            false => self.result.destination_of_image(path, count)?,
        };
        destination.tell_left_over(output);
        let options = SignOptions {
            labeler,
            algorithm: self.files.hash(),
            mode: self.files.mode(),
            dry_run: self.files.dry_run,
        };
        let bar = Bar::new("signing", output);
        let mut reporter = self.files.reporter();
        destination.edit(path, |copy| {
            let tree = self.files.tree.resolve()?;
            let signed = Image::new(copy, tree.selection, tree.jobs).and_then(|image| {
                image.limit_zeros(self.kind.max_sparse());
                image::sign(&image, &options, &bar, &mut |report| {
                    let name = Name { container: Some(path), path: &report.path };
                    reporter.signed(name, report.size, &report.outcome, output);
                    Ok(())
                })
            });
            signed.with_context(|| path.display().to_string())
        })?;
        reporter.conclude(bar.finish(), output)
    }
}
