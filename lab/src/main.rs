fn main() -> anyhow::Result<()> {
    for series in lab::kernel::Series::ALL {
        for v in [lab::kernel::Variant::Full] {
            lab::kernel::prepare(series, v)?;
        }
    }
    Ok(())
}
