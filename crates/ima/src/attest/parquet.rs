//! A table as a Parquet file: one row group per table, with one page per column.

use std::io::{self, Write};

use ima_format::parquet::{footer_into, page_header_into, Chunk, RowGroup, MAGIC};
use zstd::bulk::Compressor;
use zstd::DEFAULT_COMPRESSION_LEVEL;

use super::table::{Origin, Table};

/// A Parquet file that is being written.
#[allow(missing_debug_implementations)] // the compressor has nothing to show
pub struct ParquetWriter<W: Write> {
    output: W,
    offset: u64,
    groups: Vec<RowGroup>,
    compressor: Compressor<'static>,
    page: Vec<u8>,
}

impl<W: Write> ParquetWriter<W> {
    /// Writes the start of a file.
    ///
    /// # Errors
    /// Writing or compressing fails.
    pub fn new(mut output: W) -> io::Result<Self> {
        output.write_all(MAGIC)?;
        let compressor = Compressor::new(DEFAULT_COMPRESSION_LEVEL)?;
        let (offset, page) = (MAGIC.len() as u64, Vec::new());
        Ok(Self { output, offset, groups: Vec::new(), compressor, page })
    }

    /// Writes all rows of a table.
    ///
    /// # Errors
    /// Writing or compressing fails.
    pub fn write(&mut self, table: &Table) -> io::Result<()> {
        if table.rows() == 0 {
            return Ok(());
        }
        let mut group = RowGroup { rows: table.rows(), chunks: Vec::new() };
        for column in table.columns() {
            self.page.clear();
            column.page_into(&mut self.page);
            let compressed = self.compressor.compress(&self.page)?;
            let mut header = Vec::new();
            page_header_into(group.rows, self.page.len(), compressed.len(), &mut header);
            self.output.write_all(&header)?;
            self.output.write_all(&compressed)?;
            let chunk = Chunk {
                offset: self.offset,
                header: header.len(),
                size: self.page.len(),
                compressed: compressed.len(),
            };
            self.offset += (chunk.header + chunk.compressed) as u64;
            group.chunks.push(chunk);
        }
        self.groups.push(group);
        Ok(())
    }

    /// Writes the end of the file.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(mut self) -> io::Result<()> {
        let mut footer = Vec::new();
        footer_into(Table::new(Origin::default()).columns(), &self.groups, &mut footer);
        self.output.write_all(&footer)?;
        self.output.flush()
    }
}
