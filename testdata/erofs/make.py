#!/usr/bin/env python3
"""Makes EROFS images: forms/, each with a digest label on each file, which must be right; and images
that lie, each named by what is wrong with it, of one that mkfs.erofs makes.

Needs erofs-utils 1.8 or newer with LZ4, MicroLZMA, DEFLATE and Zstandard; MKFS_EROFS says where.
"""
import hashlib
import io
import os
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MKFS = os.environ.get("MKFS_EROFS", "mkfs.erofs")
SUPERBLOCK = 1024


def noise(size):
    """What cannot be compressed, always the same."""
    blocks = (hashlib.sha256(b"%d" % number).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def words(size):
    """What can be."""
    return b"".join(b"%d bottles; " % (number * number % 8191) for number in range(size // 10))[:size]


FILES = {
    "empty": b"",
    "small": b"a file\n",
    "bin/program": b"\x7fELF and so on",
    "block": words(4096),
    "words": words(60_000),
    "words-again": words(45_000) + b"and another end",
    "mixed": words(9000) + noise(9000) + words(20_000),
    "noise": noise(9_001),
    "zeros": bytes(40_000) + b"end",
    "very/" + "long-name/" * 12 + "n" * 200: b"deep",
}


def archive(labels=True, files=FILES, attributes=()):
    """A tar archive, as a signer makes it."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        directories = sorted({str(parent) for path in files for parent in Path(path).parents} - {"."})
        for path in directories:
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            if labels:
                label = b"\4\4" + hashlib.sha256(content).digest()
                text = label.decode("utf-8", "surrogateescape")
                member.pax_headers["SCHILY.xattr.security.ima"] = text
            for name, value in attributes:
                member.pax_headers["SCHILY.xattr." + name] = value
            tar.addfile(member, io.BytesIO(content))
        for path, kind, target in [("bin/link", tarfile.SYMTYPE, "program"),
                                   ("words-linked", tarfile.LNKTYPE, "words"),
                                   ("pipe", tarfile.FIFOTYPE, "")]:
            member = tarfile.TarInfo(path)
            member.type, member.linkname = kind, target
            if kind != tarfile.LNKTYPE or target in files:
                tar.addfile(member)
    return output.getvalue()


def made(*options, **content):
    with tempfile.TemporaryDirectory() as directory:
        tar, image = Path(directory, "tar"), Path(directory, "image")
        tar.write_bytes(archive(**content))
        subprocess.run([MKFS, "--quiet", "-T0", "-U", "00000000-0000-0000-0000-000000000000", *options,
                        "--tar=f", image, tar], check=True)
        return image.read_bytes()


FEW = {path: FILES[path] for path in ("empty", "small", "bin/program", "block")}
MANY = [("user.shared", "the same everywhere"), ("user.more", "of it"), ("user.other", "x")]
FORMS = {
    "plain": ["-Eforce-inode-extended", "-Enosbcrc"],
    "chunk_indexes": ["--chunksize=4096", "-Eforce-chunk-indexes"],
    "chunk_map": ["--chunksize=8192", "-Eforce-inode-blockmap"],
    "lz4": ["-zlz4"],
    "lz4_small_blocks": ["-zlz4", "-b1024"],
    "lz4_full_indexes": ["-zlz4", "-Elegacy-compress"],
    "lz4_large_clusters": ["-zlz4hc", "-C65536"],
    "lz4_large_clusters_full_indexes": ["-zlz4hc", "-C65536", "-Elegacy-compress"],
    "lz4_tails": ["-zlz4hc", "-Eztailpacking"],
    "lz4_fragments": ["-zlz4hc", "-C16384", "-Efragments"],
    "lz4_all_fragments": ["-zlz4hc", "-C16384", "-Eall-fragments"],
    "lz4_dedupe": ["-zlz4hc", "-C8192", "-Ededupe,fragments,ztailpacking"],
    "lzma": ["-zlzma", "-C65536"],
    "deflate": ["-zdeflate", "-C65536"],
    "zstd": ["-zzstd", "-C65536"],
    "compressed_directories": ["-zlz4", "--zD"],
    "shared_attributes": ["-x1"],
    "inline_attributes": ["-x100"],
    "attribute_prefixes": ["--xattr-prefix=security.i", "--xattr-prefix=user.sha", "-x1"],
    "attribute_prefixes_in_fragments": ["--xattr-prefix=security.im", "-zlz4", "-Efragments"],
    "attribute_filter": ["-Exattr-name-filter"],
}

LIES = {"a": b"a file\n", "d/b": words(1500), "e/c": words(9000)}
PLAIN = made("-b1024", "-Enosbcrc", "-Eforce-inode-compact", "-x1", files=LIES,
             attributes=[("user.shared", "the same everywhere")])
EXTENDED = made("-b1024", "-Enosbcrc", "-Eforce-inode-extended", files=LIES)
SUMMED = made("-b1024", files=LIES)
CHUNKS = made("-b1024", "-Enosbcrc", "--chunksize=4096", "-Eforce-chunk-indexes", files=LIES)
FULL = made("-b1024", "-Enosbcrc", "-zlz4", "-Elegacy-compress", files=LIES)
COMPACT = made("-b1024", "-Enosbcrc", "-zlz4", files=LIES)
LARGE = made("-b1024", "-Enosbcrc", "-zlz4hc", "-C8192", "-Elegacy-compress", files=LIES)
TAILS = made("-b1024", "-Enosbcrc", "-zlz4", "-Eztailpacking", files=LIES)
FRAGMENTS = made("-b1024", "-Enosbcrc", "-zlz4", "-Eall-fragments", files=LIES)
PREFIXED = made("-b1024", "-Enosbcrc", "--xattr-prefix=security.i", files=LIES)
FILTERED = made("-b1024", "-Enosbcrc", "-Exattr-name-filter", files=LIES)


def number(image, offset, form):
    return struct.unpack_from("<" + form, image, offset)[0]


def inode(image, nid):
    return number(image, SUPERBLOCK + 0x28, "I") * 1024 + nid * 32


def extended(image, at):
    return number(image, at, "H") & 1


def body(image, at):
    """Where the attributes begin, and where they end."""
    start = at + (64 if extended(image, at) else 32)
    units = number(image, at + 2, "H")
    return start, start + (12 + 4 * (units - 1) if units else 0)


def block_of(image, at):
    """Where a directory's only block is, or the end of a file that has no other."""
    if number(image, at, "H") >> 1 == 2:
        return body(image, at)[1]
    return number(image, at + 16, "I") * 1024


def entry(image, name, directory=None):
    """Where a name's entry is in a directory's only block."""
    directory = inode(image, number(image, SUPERBLOCK + 0x0e, "H")) if directory is None else directory
    block, size = block_of(image, directory), number(image, directory + 8, "I")
    count = number(image, block + 8, "H") // 12
    for place in range(count):
        begins = number(image, block + 12 * place + 8, "H")
        ends = number(image, block + 12 * place + 20, "H") if place + 1 < count else size
        if image[block + begins:block + ends].rstrip(b"\0") == name:
            return block + 12 * place
    raise KeyError(name)


def find(image, *path):
    at = inode(image, number(image, SUPERBLOCK + 0x0e, "H"))
    for name in path:
        at = inode(image, number(image, entry(image, name, at), "Q"))
    return at


def changed(image, *changes):
    image = bytearray(image)
    for offset, form, value in changes:
        struct.pack_into("<" + form, image, offset, value)
    return bytes(image)


def clusters(image, at):
    """Where the header of compressed content is."""
    return (body(image, at)[1] + 7) // 8 * 8


def packed(image):
    return inode(image, number(image, SUPERBLOCK + 0x60, "Q"))


def cases():
    root = number(PLAIN, SUPERBLOCK + 0x0e, "H")
    a, d, b, c = find(PLAIN, b"a"), find(PLAIN, b"d"), find(PLAIN, b"d", b"b"), find(PLAIN, b"e", b"c")
    b_entry = entry(PLAIN, b"b", d)
    d_names = block_of(PLAIN, d)
    own, _ = body(PLAIN, a)
    yield "block_size_is_too_large", changed(PLAIN, (SUPERBLOCK + 0x0c, "B", 40))
    yield "features_are_unknown", changed(PLAIN, (SUPERBLOCK + 0x50, "I", 0x8000_0000))
    yield "layout_is_of_48_bits", made("-b1024", "-E48bit", "-zzstd", files=LIES)
    yield "metadata_is_compressed", made("-m4096", "-zlz4", files=LIES)
    yield "content_is_on_another_device", changed(PLAIN, (SUPERBLOCK + 0x50, "I", 8), (SUPERBLOCK + 0x56, "H", 1))
    yield "blocks_are_4_tib", changed(PLAIN, (SUPERBLOCK + 0x24, "I", 0xffff_ffff))
    yield "image_is_cut", PLAIN[:len(PLAIN) // 2]
    yield "superblock_is_cut", PLAIN[:1100]
    yield "checksum_is_wrong", changed(SUMMED, (SUPERBLOCK + 0x40, "B", ord("X")))
    yield "root_is_a_file", changed(PLAIN, (SUPERBLOCK + 0x0e, "H", number(PLAIN, entry(PLAIN, b"a"), "Q")))
    yield "root_is_past_the_end", changed(PLAIN, (SUPERBLOCK + 0x0e, "H", 0xffff))
    yield "inodes_are_past_the_end", changed(PLAIN, (SUPERBLOCK + 0x28, "I", 0xffff_fff0))
    yield "inode_format_is_unknown", changed(PLAIN, (a, "H", 0x1fe))
    yield "mode_is_impossible", changed(PLAIN, (a + 4, "H", 0o644))
    yield "size_is_4_gib", changed(PLAIN, (c + 8, "I", 0xffff_fc01))
    e = find(EXTENDED, b"a")
    yield "size_is_negative", changed(EXTENDED, (e + 8, "Q", 1 << 63))
    yield "size_is_8_eib", changed(EXTENDED, (find(EXTENDED, b"e", b"c") + 8, "Q", (1 << 63) - 1023))
    yield "block_is_past_the_end", changed(PLAIN, (c + 16, "I", 0xffff_fff0))
    yield "hole_of_8_eib", changed(EXTENDED, (e, "H", 1), (e + 8, "Q", (1 << 63) - 1), (e + 16, "I", 0xffff_ffff))
    yield "tail_leaves_its_block", changed(PLAIN, (a + 8, "I", 1023))
    yield "attributes_are_past_the_end", changed(PLAIN, (a + 2, "H", 0xffff))
    yield "link_is_too_long", changed(PLAIN, (c + 4, "H", 0o120777))
    yield "directory_is_4_gib", changed(PLAIN, (d + 8, "I", 0xffff_ffff))
    yield "directory_is_in_itself", changed(PLAIN, (b_entry, "Q", number(PLAIN, entry(PLAIN, b"d"), "Q")))
    yield "directory_is_in_two", changed(PLAIN, (b_entry, "Q", number(PLAIN, entry(PLAIN, b"e"), "Q")))
    yield "directory_is_the_root", changed(PLAIN, (b_entry, "Q", root))
    yield "entry_is_for_no_inode", changed(PLAIN, (b_entry, "Q", 0xffff_ffff_ffff_ffff))
    yield "entry_name_has_a_slash", changed(PLAIN, (d_names + number(PLAIN, b_entry + 8, "H"), "B", ord("/")))
    yield "entry_name_is_among_entries", changed(PLAIN, (b_entry + 8, "H", 12))
    yield "entry_name_is_past_its_block", changed(PLAIN, (b_entry + 8, "H", 0xffff))
    yield "entries_are_more_than_fit", changed(PLAIN, (d_names + 8, "H", 0xfff0))
    yield "entries_are_none", changed(PLAIN, (d_names + 8, "H", 0))
    yield "attribute_is_past_its_room", changed(PLAIN, (own + 12 + 4 * PLAIN[own + 4] + 2, "H", 0xffff))
    yield "shared_attributes_are_more_than_fit", changed(PLAIN, (own + 4, "B", 255))
    yield "shared_attribute_is_past_the_end", changed(PLAIN, (own + 12, "I", 0xffff_ffff))
    label, _ = body(PREFIXED, find(PREFIXED, b"a"))
    yield "attribute_prefix_is_not_there", changed(PREFIXED, (label + 13, "B", 0xff))
    yield "attribute_prefixes_are_past_the_end", changed(PREFIXED, (SUPERBLOCK + 0x5c, "I", 0xffff_fff0))
    hidden, _ = body(FILTERED, find(FILTERED, b"a"))
    yield "attribute_filter_hides_the_label", changed(FILTERED, (hidden, "I", 0xffff_ffff))
    k = find(CHUNKS, b"e", b"c")
    chunk = (body(CHUNKS, k)[1] + 7) // 8 * 8
    yield "chunk_is_past_the_end", changed(CHUNKS, (chunk + 4, "I", 0xffff_fff0))
    yield "chunk_is_on_another_device", changed(CHUNKS, (chunk + 2, "H", 3))
    yield "chunk_format_is_unknown", changed(CHUNKS, (k + 16, "H", 0x8000))
    yield "chunks_are_more_than_fit", changed(CHUNKS, (k + 8, "I", 0xffff_ffff))
    big = find(FULL, b"e", b"c")
    header = clusters(FULL, big)
    data = number(FULL, header + 16 + 4, "I") * 1024
    start = next(offset for offset in range(data, data + 1024) if FULL[offset])
    yield "cluster_size_is_too_large", changed(FULL, (header + 7, "B", 15))
    yield "clusters_are_extents", changed(FULL, (header + 4, "H", 1))
    yield "clusters_are_4_gib", changed(FULL, (big + 8, "I", 0xffff_ffff))
    yield "first_cluster_goes_on", changed(FULL, (header + 16, "H", 2))
    yield "first_cluster_begins_late", changed(FULL, (header + 18, "H", 9))
    yield "extent_begins_past_its_cluster", changed(FULL, (header + 18, "H", 0xffff))
    yield "cluster_is_past_the_end", changed(FULL, (header + 20, "I", 0xffff_fff0))
    yield "compression_is_unknown", changed(FULL, (header + 6, "B", 9))
    yield "compression_is_not_announced", changed(FULL, (header + 6, "B", 3))
    yield "compressed_data_reaches_before_its_start", changed(FULL, (start, "I", 0xffff_0000))
    yield "compressed_data_is_zeros", FULL[:data] + bytes(1024) + FULL[data + 1024:]
    yield "what_is_not_compressed_is_longer_than_its_cluster", changed(FULL, (header + 16, "H", 0))
    whole = find(LARGE, b"e", b"c")
    yield "large_cluster_is_2_mib", changed(LARGE, (clusters(LARGE, whole) + 24 + 4, "H", 0x0fff))
    small = find(COMPACT, b"e", b"c")
    yield "compact_clusters_are_4_gib", changed(COMPACT, (small + 8, "I", 0xffff_ffff))
    yield "compact_cluster_is_past_the_end", changed(COMPACT, (clusters(COMPACT, small) + 8 + 4, "I", 0xffff_fff0))
    tail = find(TAILS, b"e", b"c")
    yield "last_cluster_leaves_its_block", changed(TAILS, (clusters(TAILS, tail) + 2, "H", 0xffff))
    piece = find(FRAGMENTS, b"e", b"c")
    yield "piece_is_past_the_end", changed(FRAGMENTS, (clusters(FRAGMENTS, piece), "Q", (1 << 64) - 1))
    yield "piece_of_nothing", changed(FRAGMENTS, (SUPERBLOCK + 0x60, "Q", 0))
    inside = packed(FRAGMENTS)
    yield "packed_inode_is_in_itself", changed(FRAGMENTS, (clusters(FRAGMENTS, inside), "Q", 1 << 63))
    yield "packed_inode_is_past_the_end", changed(FRAGMENTS, (SUPERBLOCK + 0x60, "Q", 1 << 62))


if __name__ == "__main__":
    (HERE / "forms").mkdir(exist_ok=True)
    for name, options in FORMS.items():
        content = {"files": FEW, "attributes": MANY} if "attribute" in name else {}
        (HERE / "forms" / f"{name}.img").write_bytes(made(*options, **content))
    # what mkfs.erofs makes none of: clusters of the second kind, here compressed as the first
    first = clusters(FULL, find(FULL, b"e", b"c")) + 16
    heads = [at for at in range(first, first + 9 * 8, 8) if number(FULL, at, "H") == 1]
    (HERE / "forms/lz4_second_kind.img").write_bytes(changed(FULL, *((at, "H", 3) for at in heads)))
    for name, content in cases():
        (HERE / f"{name}.img").write_bytes(content)
    seeds = HERE / "../../fuzz/seeds/erofs"
    seeds.mkdir(exist_ok=True)
    for name, content in {"plain": PLAIN, "chunks": CHUNKS, "full": FULL, "compact": COMPACT, "large": LARGE,
                          "tails": TAILS, "fragments": FRAGMENTS, "prefixed": PREFIXED,
                          "filtered": FILTERED}.items():
        (seeds / name).write_bytes(content)
