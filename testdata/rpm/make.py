#!/usr/bin/env python3
"""Makes small packages: two that are good, of format 4 and 6 (which Debian's rpmbuild cannot
make), and packages that lie, each named by what is wrong with it."""
import hashlib
import struct
from pathlib import Path

CHAR, INT8, INT16, INT32, INT64, STRING, BIN, STRINGS, I18N = range(1, 10)
ALIGN = {INT16: 2, INT32: 4, INT64: 8}
PACK = {INT16: ">H", INT32: ">I", INT64: ">Q"}
MAGIC = bytes.fromhex("8eade80100000000")


def value(kind, content):
    """The bytes of a value, and how many it counts."""
    if kind == BIN:
        return content, len(content)
    if kind == STRING:
        return content + b"\0", 1
    if kind in (STRINGS, I18N):
        return b"".join(text + b"\0" for text in content), len(content)
    return b"".join(struct.pack(PACK[kind], number) for number in content), len(content)


def header(region, entries, changes=(), pad=False, after=()):
    """A header as rpm writes it, then changed at offsets that count from its start; with entries
    after the region, too."""
    index, store = b"", b""

    def append(entries):
        nonlocal index, store
        for tag, kind, content in entries:
            data, count = value(kind, content)
            store += bytes(-len(store) % ALIGN.get(kind, 1))
            index += struct.pack(">IIII", tag, kind, len(store), count)
            store += data

    append(entries)
    size = 16 * (len(entries) + 1)
    region_entry = struct.pack(">IIII", region, BIN, len(store), 16)
    store += struct.pack(">IIiI", region, BIN, -size, 16)
    append(after)
    made = bytearray(MAGIC + struct.pack(">II", 1 + len(entries) + len(after), len(store))
                     + region_entry + index + store)
    for offset, what in changes:
        offset = offset % len(made)
        made[offset:offset + len(what)] = what
    return bytes(made) + (bytes(-len(made) % 8) if pad else b"")


LEAD = (bytes.fromhex("edabeedb0300") + struct.pack(">HH", 0, 1) + b"sample-1-1".ljust(66, b"\0")
        + struct.pack(">HH", 1, 5) + bytes(16))
CONTENT = b"#!/bin/sh\necho sample\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest().encode()


def newc(name, content, mode, ino):
    fields = [ino, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    made = b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    made += bytes(-len(made) % 4) + content
    return made + bytes(-len(made) % 4)


TRAILER = newc(b"TRAILER!!!", b"", 0, 0)


def numbered(index, content):
    made = b"07070X%08x" % index + bytes(2) + content
    return made + bytes(-len(made) % 4)


NAMED_PAYLOAD = (newc(b"./usr/bin/sample", CONTENT, 0o100755, 1)
                 + newc(b"./usr/share/empty", b"", 0o100644, 2) + TRAILER)
EMPTY = hashlib.sha256(b"").hexdigest().encode()


def main_entries(payload, format6=False, **changed):
    entries = {
        "name": (1000, STRING, b"sample"),
        "version": (1001, STRING, b"1"),
        "release": (1002, STRING, b"1"),
        "arch": (1022, STRING, b"noarch"),
        "sizes": (1028, INT32, [len(CONTENT), 0]),
        "modes": (1030, INT16, [0o100755, 0o100644]),
        "digests": (1035, STRINGS, [DIGEST, EMPTY]),
        "flags": (1037, INT32, [0, 0]),
        "source": (1044, STRING, b"sample-1-1.src.rpm"),
        "devices": (1095, INT32, [1, 1]),
        "inodes": (1096, INT32, [1, 2]),
        "dirindexes": (1116, INT32, [0, 1]),
        "basenames": (1117, STRINGS, [b"sample", b"empty"]),
        "dirnames": (1118, STRINGS, [b"/usr/bin/", b"/usr/share/"]),
        "format": (1124, STRING, b"cpio"),
        "digestalgo": (5011, INT32, [8]),
        "payloaddigest": (5092, STRINGS, [hashlib.sha256(payload).hexdigest().encode()]),
        "payloadalgo": (5093, INT32, [8]),
    }
    if format6:
        entries["sizes"] = (5008, INT64, [len(CONTENT), 0])
        entries["rpmformat"] = (5114, INT32, [6])
        del entries["payloadalgo"]
    entries.update(changed)
    return sorted((entry for entry in entries.values() if entry), key=lambda entry: entry[0])


def package(main_changes=(), signature_changes=(), more=(), payload=NAMED_PAYLOAD, format6=False,
            lead=LEAD, after=(), main_after=(), **changed):
    main = header(63, main_entries(payload, format6, **changed))
    signature = [(273, STRING, hashlib.sha256(main).hexdigest().encode())]
    if format6:
        signature += [(279, STRING, hashlib.sha3_256(main).hexdigest().encode()),
                      (999, BIN, bytes(4128))]
    else:
        signature += [(269, STRING, hashlib.sha1(main).hexdigest().encode()),
                      (1004, BIN, hashlib.md5(main + payload).digest()),
                      (1008, BIN, bytes(32))]
    signature = sorted(signature + list(more), key=lambda entry: entry[0])
    main = header(63, main_entries(payload, format6, **changed), main_changes, after=main_after)
    return lead + header(62, signature, signature_changes, pad=True, after=after) + main + payload


OTHER = hashlib.sha256(b"another program").hexdigest().encode()


def linked(digests, payload):
    """A package with two names of one file, the second of which has the content."""
    return package(sizes=(1028, INT32, [len(CONTENT)] * 2), inodes=(1096, INT32, [1, 1]),
                   modes=(1030, INT16, [0o100755] * 2), digests=(1035, STRINGS, digests),
                   payload=payload)


FIRST = newc(b"./usr/bin/sample", b"", 0o100755, 1)
LAST = newc(b"./usr/share/empty", CONTENT, 0o100755, 1)


def with_third(mode, flags, entry=b"", **changed):
    """A package whose third entry has a digest that belongs to no content."""
    return package(
        sizes=(1028, INT32, [len(CONTENT), 0, 0]), modes=(1030, INT16, [0o100755, 0o100644, mode]),
        digests=(1035, STRINGS, [DIGEST, EMPTY, OTHER]), flags=(1037, INT32, [0, 0, flags]),
        devices=(1095, INT32, [1] * 3), inodes=(1096, INT32, [1, 2, 3]),
        dirindexes=(1116, INT32, [0, 1, 1]), basenames=(1117, STRINGS, [b"sample", b"empty", b"third"]),
        payload=NAMED_PAYLOAD[:-len(TRAILER)] + entry + TRAILER,
        **{"targets": (1036, STRINGS, [b"", b"", b"sample"])} | changed)


THIRD = newc(b"./usr/share/third", b"", 0o040755, 3)


def u32(number):
    return struct.pack(">I", number)


GOOD = package()
SIGNATURE = len(LEAD)
INDEX = 16
FILE_SIGNATURE = b"0302" + b"04" + b"00" * 6

CASES = {
    "format_4": GOOD,
    "format_6": package(format6=True, payload=numbered(0, CONTENT) + numbered(1, b"") + TRAILER),
    # as signing servers write them
    "format_4_entry_after_region": package(after=[(268, BIN, b"\x89\x02")]),
    "format_4_entries_after_region": package(
        after=[(268, BIN, b"\x89\x02\x03"), (1007, INT32, [1]), (1010, I18N, [b"a", b"b"])]),
    "format_6_entries_after_region": package(
        format6=True, payload=numbered(0, CONTENT) + numbered(1, b"") + TRAILER,
        after=[(268, BIN, b"\x89\x02\x03"), (271, INT64, [1])]),
    "format_4_file_signatures_after_region": package(after=[(274, STRINGS, [FILE_SIGNATURE] * 2)]),
    "main_header_has_an_entry_after_its_region": package(main_after=[(5020, STRING, b"x")]),
    "tag_stands_in_the_region_and_after_it": package(after=[(1004, BIN, bytes(16))]),
    "entry_after_region_begins_past_the_store": package(
        after=[(268, BIN, b"\x89\x02")], signature_changes=[(INDEX + 16 * 5 + 8, u32(500))]),
    "entry_after_region_overlaps_the_trailer": package(
        after=[(268, BIN, b"\x89\x02")], signature_changes=[(INDEX + 16 * 5 + 8, u32(100))]),
    "entry_has_the_tag_of_a_region": package(release=(63, STRING, b"1")),
    "format_4_two_names": linked([DIGEST] * 2, FIRST + LAST + TRAILER),
    "format_4_directory_has_a_digest": with_third(0o040755, 0, THIRD),
    "format_4_link_has_a_digest": with_third(0o120777, 0, THIRD),
    "format_4_device_has_a_digest": with_third(0o020600, 0, THIRD),
    "format_4_ghost_has_a_digest": with_third(0o100755, 64),
    "format_4_ghost_is_in_the_payload": with_third(
        0o100755, 64, newc(b"./usr/share/third", CONTENT, 0o100755, 3)),
    "format_4_paths_are_absolute": package(
        payload=newc(b"/usr/bin/sample", CONTENT, 0o100755, 1)
        + newc(b"usr/share/empty", b"", 0o100644, 2) + TRAILER),
    "file_is_of_no_type": with_third(0o050755, 0, THIRD),
    "link_has_no_target": with_third(0o120777, 0, THIRD, targets=(1036, STRINGS, [b""] * 3)),
    "name_is_empty": package(basenames=(1117, STRINGS, [b"", b"empty"])),
    "signed_directory": with_third(0o040755, 0, THIRD, more=[
        (274, STRINGS, [b"", b"", b"030204"])]),
    "directory_is_not_in_the_payload": with_third(0o040755, 0),
    "digests_are_exchanged": package(digests=(1035, STRINGS, [EMPTY, DIGEST])),
    "file_has_no_digest": package(digests=(1035, STRINGS, [b"", EMPTY])),
    "files_have_no_digests": package(digests=None),
    "hard_link_has_another_digest": linked([OTHER, DIGEST], FIRST + LAST + TRAILER),
    "hard_link_has_no_digest": linked([b"", DIGEST], FIRST + LAST + TRAILER),
    "hard_link_has_the_content_first": linked([DIGEST] * 2, LAST + FIRST + TRAILER),
    "hard_link_is_not_in_the_payload": linked([DIGEST] * 2, LAST + TRAILER),
    "hard_link_has_no_content": linked([DIGEST] * 2, FIRST + TRAILER),
    "hard_link_has_the_content_twice": linked(
        [DIGEST] * 2, newc(b"./usr/bin/sample", CONTENT, 0o100755, 1) + LAST + TRAILER),
    "hard_link_is_parted": package(
        sizes=(1028, INT32, [len(CONTENT), 0, len(CONTENT)]), modes=(1030, INT16, [0o100755] * 3),
        digests=(1035, STRINGS, [DIGEST, EMPTY, DIGEST]), flags=(1037, INT32, [0] * 3),
        devices=(1095, INT32, [1] * 3), inodes=(1096, INT32, [1, 2, 1]),
        dirindexes=(1116, INT32, [0, 1, 1]), basenames=(1117, STRINGS, [b"sample", b"empty", b"third"]),
        payload=FIRST + newc(b"./usr/share/empty", b"", 0o100755, 2)
        + newc(b"./usr/share/third", CONTENT, 0o100755, 1) + TRAILER),
    "main_header_has_file_signatures": package(
        signatures=(5090, STRINGS, [FILE_SIGNATURE] * 2), more=[(274, STRINGS, [FILE_SIGNATURE] * 2)]),
    "main_header_has_whole_paths": package(paths=(1027, STRINGS, [b"/etc/passwd"]), basenames=None),
    "modes_are_of_32_bits": package(modes=(1030, INT32, [0o100755, 0o100644])),
    "name_has_a_slash": package(basenames=(1117, STRINGS, [b"../../etc/sample", b"empty"])),
    "directory_has_no_slash": package(dirnames=(1118, STRINGS, [b"/usr/bin", b"/usr/share/"])),
    "directory_leads_back": package(dirnames=(1118, STRINGS, [b"/usr/bin/../../etc/", b"/usr/share/"])),
    "path_stands_twice": package(
        basenames=(1117, STRINGS, [b"sample", b"sample"]), dirnames=(1118, STRINGS, [b"/usr/bin/"] * 2)),
    "payload_brings_a_file_twice": package(
        payload=newc(b"./usr/bin/sample", CONTENT[::-1], 0o100755, 1) + NAMED_PAYLOAD),
    "ghost_is_numbered": with_third(0o100755, 64, numbered(2, b"")),
    "lead_is_cut": GOOD[:50],
    "lead_is_of_version_9": package(lead=LEAD[:4] + b"\x09" + LEAD[5:]),
    "signature_header_has_no_magic": package(signature_changes=[(0, b"\0")]),
    "signature_header_is_cut": GOOD[:SIGNATURE + 100],
    "signature_header_has_33_entries": package(signature_changes=[(8, u32(33))]),
    "signature_header_has_4_gib_of_entries": package(signature_changes=[(8, b"\xff" * 4)]),
    "signature_header_has_no_entry": package(signature_changes=[(8, u32(0))]),
    "signature_header_claims_64_mib": package(signature_changes=[(12, u32(64 << 20))]),
    "signature_header_claims_4_gib": package(signature_changes=[(12, b"\xff" * 4)]),
    "main_header_claims_4_gib": package([(12, b"\xff" * 4)]),
    "main_header_claims_256_mib": package([(12, u32(0x0fffffff))]),
    "main_header_has_65536_entries": package([(8, u32(65536))]),
    "region_is_missing": package([(INDEX, u32(100))]),
    "region_trailer_is_past_the_store": package([(INDEX + 8, u32(0x7fffffff))]),
    "region_trailer_is_negative": package([(INDEX + 8, u32(0xfffffff0))]),
    "region_trailer_is_of_another_tag": package([(-16, u32(61))]),
    "region_is_larger_than_the_index": package([(-8, struct.pack(">i", -1 << 20))]),
    "value_begins_past_the_store": package([(INDEX + 16 + 8, u32(0x7fffffff))]),
    "value_begins_before_the_store": package([(INDEX + 16 + 8, u32(0xffffffff))]),
    "value_overlaps_another": package([(INDEX + 32 + 8, u32(0))]),
    "values_leave_a_gap": package([(INDEX + 32 + 8, u32(8))]),
    "value_is_not_aligned": package([(INDEX + 16 * 5 + 8, u32(0x1b))]),
    "count_overflows": package([(INDEX + 16 * 5 + 12, u32(0x40000001))]),
    "count_is_a_million": package([(INDEX + 16 * 5 + 12, u32(0xfffff))]),
    "count_is_zero": package([(INDEX + 16 * 5 + 12, u32(0))]),
    "strings_have_no_end": package([(INDEX + 16 * 7 + 12, u32(4000))]),
    "string_is_counted_twice": package([(INDEX + 16 + 12, u32(2))]),
    "type_is_unknown": package([(INDEX + 16 + 4, u32(10))]),
    "tag_stands_twice": package(release=(1001, STRING, b"1")),
    "files_have_no_modes": package(modes=None),
    "files_have_no_directories": package(dirnames=None),
    "directory_index_is_past_the_list": package(dirindexes=(1116, INT32, [0, 0x7fffffff])),
    "more_sizes_than_files": package(sizes=(1028, INT32, [1, 2, 3])),
    "fewer_digests_than_files": package(digests=(1035, STRINGS, [DIGEST])),
    "digests_are_numbers": package(digests=(1035, INT32, [1, 2])),
    "digest_is_not_hexadecimal": package(digests=(1035, STRINGS, [b"x" * 64, EMPTY])),
    "digest_is_too_short": package(digests=(1035, STRINGS, [DIGEST[:40], EMPTY])),
    "digest_algorithm_is_unknown": package(digestalgo=(5011, INT32, [99])),
    "more_file_signatures_than_files": package(more=[(274, STRINGS, [FILE_SIGNATURE] * 3)]),
    "file_signature_is_not_hexadecimal": package(more=[(274, STRINGS, [b"03xx", b""])]),
    "payload_has_no_magic": package(payload=b"not a cpio archive, and no name of one"),
    "payload_is_cut": package(payload=NAMED_PAYLOAD[:120]),
    "payload_claims_4_gib": package(payload=NAMED_PAYLOAD[:54] + b"ffffffff" + NAMED_PAYLOAD[62:]),
    "payload_name_claims_4_gib": package(
        payload=NAMED_PAYLOAD[:94] + b"ffffffff" + NAMED_PAYLOAD[102:]),
    "payload_field_is_not_hexadecimal": package(
        payload=NAMED_PAYLOAD[:54] + b"0000000x" + NAMED_PAYLOAD[62:]),
    "payload_brings_another_file": package(payload=newc(b"./etc/shadow", b"", 0o100600, 1) + TRAILER),
    "payload_name_escapes": package(payload=newc(b"./../../etc/shadow", b"", 0o100600, 1) + TRAILER),
    "payload_number_is_past_the_list": package(
        format6=True, payload=numbered(0xffffffff, b"") + TRAILER),
    "payload_brings_no_file": package(payload=TRAILER),
}

for name, content in CASES.items():
    (Path(__file__).parent / f"{name}.rpm").write_bytes(content)
