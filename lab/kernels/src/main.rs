//! Builds all kernels that scenarios boot, ahead of them.

use anyhow::Result;
use lab_kernels::kernel::{prepare, prepare_for, Series, Variant, FOREIGN, SERIES_OF_VARIANTS};

fn main() -> Result<()> {
    for series in Series::ALL {
        prepare(series, Variant::Full)?;
    }
    for (architecture, series) in FOREIGN {
        prepare_for(architecture, series, Variant::Full)?;
    }
    for variant in Variant::ALL {
        prepare(SERIES_OF_VARIANTS, variant)?;
    }
    Ok(())
}
