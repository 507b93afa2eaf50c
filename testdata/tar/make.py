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


def pax(*records, typeflag=b"x"):
    body = b"".join(records)
    return header(b"PaxHeaders/file", len(body), typeflag) + padded(body)


def record(text):
    length = len(text) + 3
    while len(b"%d %s\n" % (length, text)) != length:
        length += 1
    return b"%d %s\n" % (length, text)


FILE = header(b"file", 7) + padded(b"content")
END = bytes(1024)
LINK = header(b"link", 0, b"2", link=b"/elsewhere")
BELOW = header(b"link/file", 7) + padded(b"content")
LONG = header(b"././@LongLink", 5, b"L", GNU) + padded(b"long\0")
SPARSE = (record(b"GNU.sparse.size=7"), record(b"GNU.sparse.numblocks=1"), record(b"GNU.sparse.map=0,7"))

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
                                   record(b"GNU.sparse.numblocks=2"),
                                   record(b"GNU.sparse.map=0,4,2,3")) + FILE + END,
    "sparse_segment_is_past_the_end": pax(record(b"GNU.sparse.size=6"), record(b"GNU.sparse.numblocks=1"),
                                          record(b"GNU.sparse.map=0,7")) + FILE + END,
    "sparse_segment_overflows": pax(record(b"GNU.sparse.size=9999"), record(b"GNU.sparse.numblocks=1"),
                                    record(b"GNU.sparse.map=18446744073709551615,7")) + FILE + END,
    "sparse_holes_of_8_eib": pax(record(b"GNU.sparse.size=9223372036854775807"),
                                 record(b"GNU.sparse.numblocks=2"),
                                 record(b"GNU.sparse.map=0,7,9223372036854775807,0")) + FILE + END,
    "sparse_map_has_no_end": header(b"file", 0, b"S", GNU, changes=[(482, b"\1")])
                             + (bytes(504) + b"\1" + bytes(7)) * 3,
    "sparse_map_claims_more_than_there_is": pax(record(b"GNU.sparse.major=1"),
                                                record(b"GNU.sparse.minor=0"),
                                                record(b"GNU.sparse.realsize=9"))
        + header(b"file", 1024) + padded(b"99999999999\n1\n") + bytes(512) + END,
    # read differently by GNU tar and libarchive, or refused by one of them
    "solaris_records_with_pax_records": pax(record(b"path=a"), typeflag=b"X") + pax(record(b"path=b")) + FILE + END,
    "record_keyword_begins_with_a_blank": pax(b"12  path=ab\n") + FILE + END,
    "record_keyword_has_a_zero": pax(record(b"pa\0th=ab")) + FILE + END,
    "attribute_name_is_escaped": pax(record(b"SCHILY.xattr.security%2Eima=a")) + FILE + END,
    "attribute_is_libarchives_alone": pax(record(b"LIBARCHIVE.xattr.security.ima=Yg")) + FILE + END,
    "attribute_is_libarchives_and_ends_early": pax(record(b"LIBARCHIVE.xattr.security.ima%00=Yg")) + FILE + END,
    "name_is_empty": header(b"", 0) + END,
    "name_is_the_root": header(b"./.", 7) + padded(b"content") + END,
    "name_is_long_and_in_a_record": LONG + pax(record(b"path=b")) + FILE + END,
    "name_is_long_and_does_not_end": header(b"././@LongLink", 4, b"L", GNU) + b"name" * 128 + FILE + END,
    "name_is_long_and_goes_on": header(b"././@LongLink", 6, b"L", GNU) + padded(b"a\0b\0cd") + FILE + END,
    "target_of_a_file": pax(record(b"linkpath=other")) + FILE + END,
    "target_is_long_and_in_a_record": header(b"././@LongLink", 2, b"K", GNU) + padded(b"a\0")
        + pax(record(b"linkpath=b")) + header(b"link", 0, b"1") + END,
    "records_for_all_with_a_size": header(b"g", 10, b"g") + padded(b"10 size=1\n") + FILE + END,
    "records_for_all_with_attributes": header(b"g", 35, b"g")
        + padded(record(b"SCHILY.xattr.user.attribute=ab")) + FILE + END,
    "records_for_all_without_end": (header(b"g", 0, b"g")) * 40 + FILE + END,
    "records_for_a_volume": pax(record(b"mtime=1")) + header(b"volume", 0, b"V", GNU) + FILE + END,
    "volume_has_data": header(b"volume", 7, b"V", GNU) + padded(b"content") + END,
    "link_has_data": pax(record(b"mtime=1")) + header(b"link", 7, b"1", link=b"file") + padded(b"content") + END,
    "link_has_data_in_a_record": FILE + pax(record(b"size=7"))
        + header(b"link", 0, b"1", GNU, link=b"file") + padded(b"content") + END,
    "directory_has_data": header(b"directory", 7, b"5") + padded(b"content") + END,
    "magic_is_nearly_ustar": header(b"file", 0, magic=b"ustarX00") + END,
    "size_begins_with_a_zero_byte": header(b"file", b"\x00" + b"00000000007") + padded(b"content") + END,
    "size_is_blank": header(b"file", b" " * 12) + END,
    "size_is_signed": header(b"file", b"+7\0".ljust(12, b"\0")) + padded(b"content") + END,
    "size_is_base_256_of_another_kind": header(b"file", b"\x81" + bytes(10) + b"\x07") + padded(b"content") + END,
    "owner_is_no_number": header(b"file", 0, changes=[(108, b"root\0")]) + END,
    "sparse_table_continues_after_its_end": header(b"file", 0, b"S", GNU, changes=[(482, b"\1"), (483, b"%011o\0" % 0)])
        + FILE + END,
    "sparse_map_in_a_plain_file": header(b"file", 7, b"0", GNU, changes=[(386, b"%011o\0%011o\0" % (512, 7))])
        + padded(b"content") + END,
    "sparse_records_of_another_type": pax(*SPARSE) + header(b"file", 7, b"7") + padded(b"content") + END,
    "sparse_records_of_gnus_format": pax(*SPARSE) + header(b"file", 7, b"0", GNU) + padded(b"content") + END,
    "sparse_records_of_a_hard_link": FILE + pax(*SPARSE) + header(b"link", 0, b"1", link=b"file") + END,
    "sparse_in_two_forms": pax(record(b"GNU.sparse.major=1"), record(b"GNU.sparse.minor=0"), *SPARSE) + FILE + END,
    "sparse_size_alone": pax(record(b"GNU.sparse.realsize=9")) + FILE + END,
    "sparse_as_star_writes_it": pax(record(b"SCHILY.realsize=9999")) + FILE + END,
    "sparse_as_solaris_writes_it": pax(record(b"SUN.holesdata= 0 4 9")) + FILE + END,
    "sparse_segment_is_not_aligned": pax(record(b"GNU.sparse.size=1027"), record(b"GNU.sparse.numblocks=2"),
                                         record(b"GNU.sparse.map=0,4,1024,3")) + FILE + END,
    "sparse_map_ends_before_the_file": pax(record(b"GNU.sparse.size=4096"), record(b"GNU.sparse.numblocks=1"),
                                           record(b"GNU.sparse.map=0,7")) + FILE + END,
    "after_the_end": FILE + END + header(b"hidden", 7) + padded(b"content") + END,
    "after_one_block_of_zeros": FILE + bytes(512) + header(b"hidden", 7) + padded(b"content") + END,
    "after_the_end_garbage": FILE + END + b"garbage",
    "name_below_a_link": LINK + BELOW + END,
    "name_below_a_file": FILE + header(b"file/below", 7) + padded(b"content") + END,
    "name_of_a_link": LINK + header(b"link", 7) + padded(b"content") + END,
    "name_of_another_link": LINK + header(b"link", 0, b"2", link=b"/there") + END,
    "name_of_a_directory_of_others": BELOW + LINK + END,
    "name_of_a_directory": header(b"file", 0, b"5") + FILE + END,
    "hard_link_to_itself": FILE + header(b"file", 0, b"1", link=b"./file") + END,
    "data_is_cut": header(b"file", 2000) + b"content",
    "header_is_cut": FILE + FILE[:100],
}

for name, content in CASES.items():
    (Path(__file__).parent / f"{name}.tar").write_bytes(content)
