//! Sparse members, in all forms.

use super::blocks::{octal, padded, BLOCK};
use super::generate::{Generator, Member, GNU, V7};

impl Generator {
    pub(super) fn sparse(&mut self, member: &mut Member) {
        let mut segments = Vec::new();
        let (mut end, mut data) = (0, Vec::new());
        let count = match self.odd("a sparse file without segments") {
            true => 0,
            false => 1 + self.below(7),
        };
        for index in 0..count {
            let mut length = 512 * (1 + self.below(3));
            if index + 1 == count && self.one_in(2) || self.odd("a segment that is not aligned") {
                length -= 1 + self.below(511);
            }
            if self.odd("an empty segment") {
                length = 0;
            }
            let mut offset = end + 512 * self.below(4);
            if self.odd("an odd offset") {
                offset = self.below(4000);
            }
            segments.push((offset, length));
            data.extend((0..length).map(|_| self.next() as u8));
            end = offset + length;
        }
        let mut size = end;
        if self.one_in(2) {
            size += 512 * self.below(10) + self.below(2);
            if !self.odd("a map without its end") {
                segments.push((size, 0));
            }
        }
        if self.odd("an odd size of a sparse file") {
            size = self.below(10_000);
        }
        if self.odd("more or less data than segments") {
            data.resize(self.below(4096), 1);
        }
        if self.magic == GNU || self.odd("an old sparse file") {
            return self.old_sparse(member, &segments, size, data);
        }
        if self.magic == V7 && !self.odd("a sparse file in version 7") {
            return;
        }
        let mut records = self.sparse_records(&segments, size, &mut data);
        if self.odd("sparse records in another order") {
            let (one, other) = (self.below(records.len()), self.below(records.len()));
            records.swap(one, other);
        }
        if self.odd("a sparse record too few") {
            records.remove(self.below(records.len()));
        }
        let records = records.into_iter().map(|(keyword, value)| {
            ([b"GNU.sparse.", keyword.as_bytes()].concat(), value.into_bytes())
        });
        member.records.extend(records);
        (member.typeflag, member.size, member.data) = (b'0', octal(data.len() as u64), data);
    }

    fn sparse_records(
        &mut self,
        segments: &[(usize, usize)],
        size: usize,
        data: &mut Vec<u8>,
    ) -> Vec<(&'static str, String)> {
        let mut records = Vec::new();
        let form = self.below(3);
        match form {
            0 | 1 => {
                records.push(("size", size.to_string()));
                records.push(("numblocks", segments.len().to_string()));
                if form == 0 {
                    for (offset, length) in segments {
                        records.push(("offset", offset.to_string()));
                        records.push(("numbytes", length.to_string()));
                    }
                } else {
                    let numbers: Vec<_> = segments
                        .iter()
                        .map(|(offset, length)| format!("{offset},{length}"))
                        .collect();
                    records.push(("map", numbers.join(",")));
                }
            }
            _ => {
                records.push(("major", "1".to_owned()));
                records.push(("minor", "0".to_owned()));
                records.push(("realsize", size.to_string()));
                let mut map = format!("{}\n", segments.len());
                if self.odd("a comment in a map") {
                    map.insert_str(0, "# map\n");
                }
                for (offset, length) in segments {
                    map += &format!("{offset}\n{length}\n");
                }
                *data = [padded(map.as_bytes()), data.clone()].concat();
            }
        }
        if self.odd("two sparse forms") {
            let more = self.pick(&[
                "major",
                "minor",
                "realsize",
                "size",
                "numblocks",
                "offset",
                "map",
                "other",
            ]);
            records.push((more, "1".to_owned()));
        }
        records
    }

    fn old_sparse(
        &mut self,
        member: &mut Member,
        segments: &[(usize, usize)],
        size: usize,
        data: Vec<u8>,
    ) {
        let entry = |(offset, length): &(usize, usize)| {
            [octal(*offset as u64), octal(*length as u64)].concat()
        };
        let (first, rest) = segments.split_at(segments.len().min(4));
        let mut table: Vec<u8> = first.iter().flat_map(entry).collect();
        if self.odd("garbage in a table") {
            let at = self.below(4) * 24 + self.pick(&[0, 12]);
            table.resize(96, 0);
            table[at..at + 12].copy_from_slice(&self.pick(&[[0; 12], *b"00000000001\0"]));
        }
        member.patches.push((386, table));
        let is_extended = !rest.is_empty() || self.odd("a table that goes on without reason");
        member.patches.push((482, vec![u8::from(is_extended)]));
        member.patches.push((483, octal(size as u64)));
        if is_extended {
            let mut block: Vec<u8> = rest.iter().flat_map(entry).collect();
            block.resize(BLOCK, 0);
            member.map = block;
        }
        (member.typeflag, member.size, member.data) = (b'S', octal(data.len() as u64), data);
    }
}
