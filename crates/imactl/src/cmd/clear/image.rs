//! `imactl clear` for images of file systems

use anyhow::{Context, Result};
use ima::container::image::{self, Image};

use super::report::Reporter;
use super::ClearArgs;
use crate::container::{check_place, Destination};
use crate::hint::hinted;
use crate::output::{Name, Output};
use crate::progress::Bar;
use crate::Outcome;

impl ClearArgs {
    /// Takes the labels out of images.
    pub(super) fn image(&self, output: &mut Output) -> Result<Outcome> {
        check_place(self.files.place.resolve())?;
        let images = self.files.tree.resolve()?.roots;
        let mut outcome = Outcome::Good;
        for path in &images {
            if image::is_read_only(path).with_context(|| path.display().to_string())? {
                return Err(hinted(
                    format!("{}: an image of a read-only file system", path.display()),
                    "it is made anew: clear the tar archive that it is made of, then sqfstar or \
                     mkfs.erofs --tar",
                ));
            }
            let destination = match self.files.dry_run {
                true => Destination::Nowhere,
                false => self.result.destination_of_image(path, images.len())?,
            };
            destination.tell_left_over(output);
            let bar = Bar::new("clearing", output);
            let mut reporter = Reporter::new(self.files.dry_run);
            destination.edit(path, |copy| {
                let tree = self.files.tree.resolve()?;
                let cleared = Image::new(copy, tree.selection, tree.jobs).and_then(|image| {
                    image::clear(&image, self.files.dry_run, &bar, &mut |report| {
                        let name = Name { container: Some(path), path: &report.path };
                        reporter.cleared(name, report.outcome, output);
                        Ok(())
                    })
                });
                cleared.with_context(|| path.display().to_string())
            })?;
            bar.finish();
            outcome = outcome.max(reporter.conclude(output)?);
        }
        Ok(outcome)
    }
}
