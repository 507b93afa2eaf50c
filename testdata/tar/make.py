#!/usr/bin/env python3
"""Makes archives that lie, each named by what is wrong with it."""
from pathlib import Path

GNU, POSIX = b"ustar  \0", b"ustar\x0000"


def header(name, size, typeflag=b"0", magic=POSIX, link=b"", changes=()):
    block = bytearray(512)
    block[0:len(name)] = name
    block[100:124] = b"0000644\x000000000\x000000000\x00"
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[136:148] = b"14000000000\0"
    block[156:157] = typeflag
    block[157:157 + len(link)] = link
    block[257:265] = magic
    for offset, value in changes:
        block[offset:offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content):
    return content + bytes(-len(content) % 512)


def pax(*records):
    body = b"".join(records)
    return header(b"PaxHeaders/file", len(body), b"x") + padded(body)


def record(text):
    length = len(text) + 3
    while len(b"%d %s\n" % (length, text)) != length:
        length += 1
    return b"%d %s\n" % (length, text)


FILE = header(b"file", 7) + padded(b"content")
END = bytes(1024)

CASES = {
    "claims_4_gib_of_data": header(b"file", 4 << 30) + bytes(512),
    "claims_4_gib_of_records": header(b"PaxHeaders/file", 4 << 30, b"x") + bytes(512),
    "claims_8_eib": header(b"file", b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7) + bytes(512),
    "claims_16_eib": header(b"file", b"\x80" + bytes(3) + b"\xff" * 8) + bytes(512),
    "checksum_is_wrong": FILE[:148] + b"000000\0 " + FILE[156:] + END,
    "size_is_no_number": header(b"file", b"0000000000x\0") + bytes(512) + END,
    "size_is_negative": header(b"file", b"\xff" * 12) + bytes(512) + END,
    "record_is_longer_than_the_records": pax(b"99 path=file\n") + FILE + END,
    "record_ends_within_another": pax(b"11 path=file\n", record(b"mtime=1")) + FILE + END,
    "record_has_no_length": pax(b"path=file\n") + FILE + END,
    "record_has_no_equals_sign": pax(b"7 path\n") + FILE + END,
    "record_has_a_length_of_zero": pax(b"0 path=file\n") + FILE + END,
    "record_size_is_no_number": pax(record(b"size=seven")) + FILE + END,
    "record_size_is_past_the_end": pax(record(b"size=99999")) + FILE + END,
    "records_without_a_member": pax(record(b"path=file")) + END,
    "records_twice": pax(record(b"path=a")) + pax(record(b"path=b")) + FILE + END,
    "records_for_all_with_a_name": header(b"g", 16, b"g") + padded(b"16 path=for-all\n") + FILE + END,
    "attribute_is_not_base64": pax(record(b"LIBARCHIVE.xattr.security.ima=%%%")) + FILE + END,
    "attributes_differ": pax(record(b"SCHILY.xattr.security.ima=a"),
                             record(b"LIBARCHIVE.xattr.security.ima=Yg")) + FILE + END,
    "name_escapes": header(b"usr/../../etc/passwd", 0) + END,
    "record_name_escapes": pax(record(b"path=../etc/passwd")) + FILE + END,
    "record_name_has_a_zero": pax(record(b"path=etc\0/passwd")) + FILE + END,
    "link_escapes": header(b"link", 0, b"1", link=b"../../etc/passwd") + END,
    "type_is_unknown": header(b"file", 0, b"Q") + END,
    "volume_continues_another": header(b"file", 7, b"M", GNU) + padded(b"content") + END,
    "sparse_segments_overlap": pax(record(b"GNU.sparse.size=9999"),
                                   record(b"GNU.sparse.map=0,4,2,3")) + FILE + END,
    "sparse_segment_is_past_the_end": pax(record(b"GNU.sparse.size=6"),
                                          record(b"GNU.sparse.map=0,7")) + FILE + END,
    "sparse_segment_overflows": pax(record(b"GNU.sparse.size=9999"),
                                    record(b"GNU.sparse.map=18446744073709551615,7")) + FILE + END,
    "sparse_holes_of_8_eib": pax(record(b"GNU.sparse.size=9223372036854775807"),
                                 record(b"GNU.sparse.map=0,7")) + FILE + END,
    "sparse_map_has_no_end": header(b"file", 0, b"S", GNU, changes=[(482, b"\1")])
                             + (bytes(504) + b"\1" + bytes(7)) * 3,
    "sparse_map_claims_more_than_there_is": pax(record(b"GNU.sparse.major=1"),
                                                record(b"GNU.sparse.minor=0"),
                                                record(b"GNU.sparse.realsize=9"))
        + header(b"file", 1024) + padded(b"99999999999\n1\n") + bytes(512) + END,
    "data_is_cut": header(b"file", 2000) + b"content",
    "header_is_cut": FILE + FILE[:100],
}

for name, content in CASES.items():
    (Path(__file__).parent / f"{name}.tar").write_bytes(content)
