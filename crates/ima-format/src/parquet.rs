//! Flat tables in the Apache Parquet format: written, not read.
//!
//! | part | content |
//! |---|---|
//! | magic | `PAR1` |
//! | for each row group, for each column: a page | [`PageHeader`](page_header_into), then the compressed page |
//! | footer | `FileMetaData`: the schema, and where the columns of each row group are |
//! | size | that of the footer, u32 |
//! | magic | `PAR1` |
//!
//! Headers are Thrift structures in the compact protocol (`parquet.thrift` of parquet-format 2.10). A page
//! has one definition level per row, in runs (0 null, 1 value), then the values that are not null, in the
//! encoding `PLAIN`. Numbers are little-endian.
//!
//! Columns are held as Apache Arrow lays them out, where a null has a place, too.

use alloc::vec::Vec;

/// The first and last bytes of a file.
pub const MAGIC: &[u8; 4] = b"PAR1";

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Bytes,
    /// Signed integers of 64 bits.
    Number,
    /// True or false.
    Flag,
}

/// The values of a column for some rows.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// For each row, whether it has a value.
    pub valid: Vec<bool>,
    /// For each row, where its text or bytes end.
    pub ends: Vec<u32>,
    /// All texts in a row; numbers of 8 bytes, little-endian; flags of one byte.
    pub bytes: Vec<u8>,
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// None.
    Null,
    /// A text, or bytes.
    Bytes(&'a [u8]),
    /// A number.
    Number(i64),
    /// True or false.
    Flag(bool),
}

impl Column {
    /// A column without rows.
    pub fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, valid: Vec::new(), ends: Vec::new(), bytes: Vec::new() }
    }

    /// Appends a row. A value of another kind than the column's is null.
    pub fn push(&mut self, value: Value<'_>) {
        let valid = match (self.kind, value) {
            (Kind::Text | Kind::Bytes, Value::Bytes(bytes)) => {
                self.bytes.extend_from_slice(bytes);
                true
            }
            (Kind::Number, Value::Number(number)) => {
                self.bytes.extend_from_slice(&number.to_le_bytes());
                true
            }
            (Kind::Flag, Value::Flag(flag)) => {
                self.bytes.push(u8::from(flag));
                true
            }
            _ => false,
        };
        match self.kind {
            Kind::Text | Kind::Bytes => {
                self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
            }
            Kind::Number if !valid => self.bytes.extend_from_slice(&[0; 8]),
            Kind::Flag if !valid => self.bytes.push(0),
            Kind::Number | Kind::Flag => {}
        }
        self.valid.push(valid);
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.valid.clear();
        self.ends.clear();
        self.bytes.clear();
    }

    /// Appends the content of a page with all rows.
    pub fn page_into(&self, page: &mut Vec<u8>) {
        let (mut levels, mut rest) = (Vec::new(), &self.valid[..]);
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|valid| *valid == first).count();
            varint(run as u64 * 2, &mut levels);
            levels.push(u8::from(*first));
            rest = rest.get(run..).unwrap_or_default();
        }
        page.extend_from_slice(&u32::try_from(levels.len()).unwrap_or(u32::MAX).to_le_bytes());
        page.extend_from_slice(&levels);
        match self.kind {
            Kind::Text | Kind::Bytes => {
                let mut start = 0;
                for (end, valid) in self.ends.iter().zip(&self.valid) {
                    if *valid {
                        let bytes = self.bytes.get(start as usize..*end as usize);
                        page.extend_from_slice(&(end - start).to_le_bytes());
                        page.extend_from_slice(bytes.unwrap_or_default());
                    }
                    start = *end;
                }
            }
            Kind::Number => {
                let numbers = self.bytes.chunks_exact(8).zip(&self.valid);
                numbers
                    .filter(|(_, valid)| **valid)
                    .for_each(|(number, _)| page.extend_from_slice(number));
            }
            Kind::Flag => {
                let flags = self.bytes.iter().zip(&self.valid).filter(|(_, valid)| **valid);
                let flags: Vec<_> = flags.map(|(flag, _)| *flag).collect();
                page.extend(bits(&flags));
            }
        }
    }
}

/// Bytes of 0 and 1 as bits, the lowest first.
pub fn bits(flags: &[u8]) -> impl Iterator<Item = u8> + '_ {
    flags.chunks(8).map(|eight| eight.iter().rev().fold(0, |bits, flag| bits << 1 | flag))
}

/// A page as it is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where its header begins.
    pub offset: u64,
    /// The size of the header.
    pub header: usize,
    /// The size of the page.
    pub size: usize,
    /// The size of the page when it is compressed.
    pub compressed: usize,
}

/// A row group as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroup {
    /// How many rows it has.
    pub rows: usize,
    /// The page of each column.
    pub chunks: Vec<Chunk>,
}

/// `Encoding.PLAIN`, `Encoding.RLE`, `CompressionCodec.ZSTD`
const PLAIN: i64 = 0;
const RLE: i64 = 3;
const ZSTD: i64 = 6;

/// Appends the header of a page that is compressed by Zstandard.
pub fn page_header_into(rows: usize, size: usize, compressed: usize, output: &mut Vec<u8>) {
    let mut header = Struct::new(output);
    header.i32(1, 0); // DATA_PAGE
    header.i32(2, size as i64);
    header.i32(3, compressed as i64);
    header.structure(5, |data| {
        data.i32(1, rows as i64);
        data.i32(2, PLAIN);
        data.i32(3, RLE);
        data.i32(4, RLE);
    });
    header.end();
}

/// Appends all that follows the last row group.
pub fn footer_into(columns: &[Column], groups: &[RowGroup], output: &mut Vec<u8>) {
    let start = output.len();
    let rows = |group: &RowGroup| group.rows as i64;
    let mut file = Struct::new(output);
    file.i32(1, 1);
    file.list(2, columns.len() + 1, |list| {
        let mut root = Struct::new(list);
        root.text(4, "schema");
        root.i32(5, columns.len() as i64);
        root.end();
        columns.iter().for_each(|column| schema_into(column, list));
    });
    file.i64(3, groups.iter().map(rows).sum());
    file.list(4, groups.len(), |list| {
        for group in groups {
            let sizes = group.chunks.iter().map(|chunk| (chunk.header + chunk.size) as i64);
            let mut structure = Struct::new(list);
            structure.list(1, group.chunks.len(), |list| {
                for (column, chunk) in columns.iter().zip(&group.chunks) {
                    chunk_into(column, group.rows, chunk, list);
                }
            });
            structure.i64(2, sizes.sum());
            structure.i64(3, rows(group));
            structure.end();
        }
    });
    file.text(6, "imactl");
    file.end();
    let size = u32::try_from(output.len() - start).unwrap_or(u32::MAX);
    output.extend_from_slice(&size.to_le_bytes());
    output.extend_from_slice(MAGIC);
}

/// `Type`: BOOLEAN, INT64, BYTE_ARRAY
fn type_of(kind: Kind) -> i64 {
    match kind {
        Kind::Flag => 0,
        Kind::Number => 2,
        Kind::Text | Kind::Bytes => 6,
    }
}

fn schema_into(column: &Column, output: &mut Vec<u8>) {
    let mut element = Struct::new(output);
    element.i32(1, type_of(column.kind));
    element.i32(3, 1); // OPTIONAL
    element.text(4, column.name);
    if column.kind == Kind::Text {
        element.i32(6, 0); // ConvertedType.UTF8, for old readers
        element.structure(10, |logical| logical.structure(1, |_| {})); // STRING
    }
    element.end();
}

fn chunk_into(column: &Column, rows: usize, chunk: &Chunk, output: &mut Vec<u8>) {
    let mut structure = Struct::new(output);
    structure.i64(2, chunk.offset as i64);
    structure.structure(3, |data| {
        data.i32(1, type_of(column.kind));
        data.field(2, LIST);
        data.output.push(2 << 4 | I32);
        [PLAIN, RLE].into_iter().for_each(|encoding| varint(zigzag(encoding), data.output));
        data.field(3, LIST);
        data.output.push(1 << 4 | BINARY);
        text_into(column.name, data.output);
        data.i32(4, ZSTD);
        data.i64(5, rows as i64);
        data.i64(6, (chunk.header + chunk.size) as i64);
        data.i64(7, (chunk.header + chunk.compressed) as i64);
        data.i64(9, chunk.offset as i64);
    });
    structure.end();
}

/// Types of fields in Thrift's compact protocol.
const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// A Thrift structure that is being written; fields in ascending order.
struct Struct<'a> {
    output: &'a mut Vec<u8>,
    last: u8,
}

impl<'a> Struct<'a> {
    fn new(output: &'a mut Vec<u8>) -> Self {
        Self { output, last: 0 }
    }

    /// The header of a field: no two of ours are 16 numbers apart.
    fn field(&mut self, id: u8, kind: u8) {
        self.output.push((id - self.last) << 4 | kind);
        self.last = id;
    }

    fn i32(&mut self, id: u8, value: i64) {
        self.field(id, I32);
        varint(zigzag(value), self.output);
    }

    fn i64(&mut self, id: u8, value: i64) {
        self.field(id, I64);
        varint(zigzag(value), self.output);
    }

    fn text(&mut self, id: u8, text: &str) {
        self.field(id, BINARY);
        text_into(text, self.output);
    }

    fn structure(&mut self, id: u8, fill: impl FnOnce(&mut Struct<'_>)) {
        self.field(id, STRUCT);
        let mut inner = Struct::new(self.output);
        fill(&mut inner);
        inner.end();
    }

    /// A list of structures.
    fn list(&mut self, id: u8, length: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        self.field(id, LIST);
        match u8::try_from(length) {
            Ok(short @ ..=14) => self.output.push(short << 4 | STRUCT),
            _ => {
                self.output.push(15 << 4 | STRUCT);
                varint(length as u64, self.output);
            }
        }
        fill(self.output);
    }

    fn end(self) {
        self.output.push(0);
    }
}

fn text_into(text: &str, output: &mut Vec<u8>) {
    varint(text.len() as u64, output);
    output.extend_from_slice(text.as_bytes());
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Seven bits per byte, the lowest first.
fn varint(mut value: u64, output: &mut Vec<u8>) {
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_levels_in_runs_and_the_values_that_are_not_null() {
        let mut column = Column::new("path", Kind::Text);
        [Value::Bytes(b"ab"), Value::Bytes(b""), Value::Null, Value::Bytes(b"c")]
            .into_iter()
            .for_each(|value| column.push(value));
        let mut page = Vec::new();
        column.page_into(&mut page);
        let levels = [6, 0, 0, 0, 2 << 1, 1, 1 << 1, 0, 1 << 1, 1];
        assert_eq!(page, [&levels[..], b"\x02\0\0\0ab\0\0\0\0\x01\0\0\0c"].concat());
    }

    #[test]
    fn flags_are_bits_and_numbers_have_eight_bytes() {
        let mut column = Column::new("violation", Kind::Flag);
        (0..9).for_each(|row| column.push(Value::Flag(row % 8 == 0)));
        column.push(Value::Null);
        let mut page = Vec::new();
        column.page_into(&mut page);
        assert_eq!(page, [4, 0, 0, 0, 9 << 1, 1, 1 << 1, 0, 1, 1]);
        let mut column = Column::new("index", Kind::Number);
        column.push(Value::Number(-2));
        column.push(Value::Bytes(b"no number"));
        page.clear();
        column.page_into(&mut page);
        assert_eq!(page[8..], [0xfe, 255, 255, 255, 255, 255, 255, 255]);
        // as Arrow has it
        assert_eq!((column.bytes.len(), &column.valid[..]), (16, &[true, false][..]));
    }

    #[test]
    fn numbers_are_as_thrift_writes_them() {
        let written = |value| {
            let mut output = Vec::new();
            varint(zigzag(value), &mut output);
            output
        };
        assert_eq!([written(0), written(-1), written(1)], [[0], [1], [2]]);
        assert_eq!(written(300), [0xd8, 4]);
        assert_eq!(written(i64::MIN), [&[255; 9][..], &[1]].concat());
    }
}
