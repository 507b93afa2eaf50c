#!/usr/bin/env python3
"""Makes images that lie, each named by what is wrong with it, of one that mke2fs makes."""
import struct
import subprocess
import tempfile
from pathlib import Path

BLOCK, INODE, SUPERBLOCK = 1024, 256, 1024
ROOT, FILE, DIRECTORY = 2, 12, 13


def made(*options):
    with tempfile.TemporaryDirectory() as directory:
        root, image = Path(directory, "root"), Path(directory, "image")
        (root / "d").mkdir(parents=True)
        (root / "a").write_text("a file\n")
        (root / "d/b").write_text("another\n")
        subprocess.run(["mke2fs", "-q", "-b", "1024", "-N", "16", *options, "-d", root, image, "64"], check=True)
        batch = Path(directory, "batch")
        value = Path(directory, "value")
        value.write_bytes(b"\4\4" + bytes(32))
        batch.write_text(f"set_current_time @1700000000\nea_set -f {value} a security.ima\n")
        subprocess.run(["debugfs", "-w", "-f", batch, image], check=True, capture_output=True)
        content = bytearray(image.read_bytes())
        # mke2fs leaves the last blocks away, where nothing is
        struct.pack_into("<I", content, SUPERBLOCK + 4, len(content) // BLOCK)
        return bytes(content)


EXT4 = made("-t", "ext4", "-I", "256", "-O",
            "^has_journal,^resize_inode,^metadata_csum,^64bit,^flex_bg,^inline_data")
EXT2 = made("-t", "ext2", "-I", "128", "-O", "^resize_inode")


def word(image, offset):
    return struct.unpack_from("<I", image, offset)[0]


def table(image):
    return word(image, 2 * BLOCK + 8) * BLOCK


def inode(image, number, size=INODE):
    return table(image) + (number - 1) * size


def changed(image, *changes):
    image = bytearray(image)
    for offset, value in changes:
        image[offset:offset + len(value)] = value
    return bytes(image)


def u16(value):
    return struct.pack("<H", value)


def u32(value):
    return struct.pack("<I", value)


FILE_INODE, DIRECTORY_INODE = inode(EXT4, FILE), inode(EXT4, DIRECTORY)
# the first extent's low half of the block number
DIRECTORY_BLOCK = word(EXT4, DIRECTORY_INODE + 0x28 + 12 + 8) * BLOCK
# after . and ..
ENTRY = DIRECTORY_BLOCK + 24
IN_INODE = FILE_INODE + 128 + struct.unpack_from("<H", EXT4, FILE_INODE + 128)[0]
FILE2 = inode(EXT2, FILE, 128)
ATTRIBUTES2 = word(EXT2, FILE2 + 0x68) * BLOCK

CASES = {
    "block_size_is_too_large": changed(EXT4, (SUPERBLOCK + 0x18, u32(9))),
    "inode_size_is_zero": changed(EXT4, (SUPERBLOCK + 0x58, u16(0))),
    "groups_have_no_inodes": changed(EXT4, (SUPERBLOCK + 0x28, u32(0))),
    "features_are_unknown": changed(EXT4, (SUPERBLOCK + 0x60, u32(0x8000_0000))),
    "journal_is_to_be_replayed": changed(EXT4, (SUPERBLOCK + 0x60, u32(0x46))),
    "blocks_are_4_tib": changed(EXT4, (SUPERBLOCK + 4, u32(0xffff_ffff))),
    "image_is_cut": EXT4[:8192],
    "inode_table_is_past_the_end": changed(EXT4, (2 * BLOCK + 8, u32(0xffff_fff0))),
    "directory_is_in_itself": changed(EXT4, (ENTRY, u32(DIRECTORY))),
    "directory_is_in_two": changed(EXT4, (ENTRY, u32(ROOT))),
    "entry_is_for_no_inode": changed(EXT4, (ENTRY, u32(9999))),
    "entry_is_for_a_free_inode": changed(EXT4, (ENTRY, u32(16))),
    "entry_has_no_length": changed(EXT4, (ENTRY + 4, u16(0))),
    "entry_is_past_its_block": changed(EXT4, (ENTRY + 4, u16(4096))),
    "entry_name_has_a_slash": changed(EXT4, (ENTRY + 8, b"/")),
    "extent_tree_has_no_magic": changed(EXT4, (FILE_INODE + 0x28, u16(0))),
    "extent_tree_is_too_deep": changed(EXT4, (FILE_INODE + 0x28 + 6, u16(6))),
    "extent_tree_is_in_itself": changed(EXT4, (FILE_INODE + 0x28 + 6, u16(1)),
                                        (FILE_INODE + 0x28 + 12 + 4, u32(FILE_INODE // BLOCK))),
    "extents_are_more_than_fit": changed(EXT4, (FILE_INODE + 0x28 + 2, u16(5))),
    "extent_is_past_the_end": changed(EXT4, (FILE_INODE + 0x28 + 12 + 8, u32(0xffff_fff0))),
    "extents_are_out_of_order": changed(EXT4, (FILE_INODE + 0x28 + 2, u16(2)),
                                        (FILE_INODE + 0x28 + 24, u32(0) + u16(1))),
    "file_of_holes": changed(EXT4, (FILE_INODE + 0x6c, u32(0x7fff_ffff))),
    "inline_content_is_4_gib": changed(EXT4, (FILE_INODE + 0x20, u32(0x1000_0000)),
                                       (FILE_INODE + 4, u32(0xffff_ffff))),
    "encrypted": changed(EXT4, (FILE_INODE + 0x20, u32(0x8_0800))),
    "attribute_name_is_past_the_end": changed(EXT4, (IN_INODE + 4, b"\xff")),
    "attribute_value_is_past_the_end": changed(EXT4, (IN_INODE + 4 + 2, u16(0xfff0))),
    "attribute_value_is_4_gib": changed(EXT4, (IN_INODE + 4 + 8, u32(0xffff_ffff))),
    "attribute_value_is_in_no_inode": changed(EXT4, (IN_INODE + 4 + 4, u32(DIRECTORY))),
    "attribute_block_is_past_the_end": changed(EXT2, (FILE2 + 0x68, u32(0xffff_fff0))),
    "attribute_block_has_no_magic": changed(EXT2, (ATTRIBUTES2, u32(0))),
    "block_is_past_the_end": changed(EXT2, (FILE2 + 0x28, u32(0xffff_fff0))),
    "blocks_of_blocks_are_in_themselves": changed(
        EXT2, (FILE2 + 4, u32(0x7fff_ffff)), (FILE2 + 0x28, u32(word(EXT2, FILE2 + 0x28)) * 12),
        (FILE2 + 0x28 + 48, u32(ATTRIBUTES2 // BLOCK) * 3),
        (ATTRIBUTES2 + BLOCK // 2, u32(ATTRIBUTES2 // BLOCK) * (BLOCK // 8))),
}

for name, content in CASES.items():
    (Path(__file__).parent / f"{name}.img").write_bytes(content)
for name, content in {"ext4": EXT4, "ext2": EXT2}.items():
    seeds = Path(__file__).parent / "../../fuzz/seeds/ext4"
    seeds.mkdir(exist_ok=True)
    (seeds / name).write_bytes(content)
