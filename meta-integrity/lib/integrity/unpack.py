# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Reads what a build has compressed, with the tools that compressed it.

import subprocess

# By the file name's extension; all of them take -dc.
PROGRAMS = {
    'bz2': ['bzip2'],
    'gz': ['gzip'],
    'lz4': ['lz4'],
    'lzma': ['xz', '--format=lzma'],
    'xz': ['xz'],
    'zst': ['zstd'],
}

def decompress(path, extension, output=subprocess.PIPE):
    """The content of a compressed file; or writes it to `output`, a file."""
    command = [*PROGRAMS[extension], '-dc', path]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, check=True).stdout

# File systems that can be read: where their magic number is.
_MAGIC = {'ext': (1080, b'\x53\xef'), 'erofs': (1024, b'\xe2\xe1\xf5\xe0'), 'squashfs': (0, b'hsqs')}

def file_systems(path):
    """[(name, path)] where a file is such a file system, else []."""
    for name, (offset, magic) in _MAGIC.items():
        with open(path, 'rb') as image:
            image.seek(offset)
            if image.read(len(magic)) == magic:
                return [(name, path)]
    return []

def partitions(disk, directory):
    """The same for each partition of a disk image, which is copied to a file in `directory`."""
    command = ['parted', '--machine', '--script', disk, 'unit', 'B', 'print']
    listing = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    systems = []
    for line in listing.stdout.splitlines():
        number, *fields = line.split(':')
        if number.isdigit():
            start, _, size = (field.rstrip('B') for field in fields[:3])
            path = '%s/partition.%s' % (directory, number)
            subprocess.run(['dd', 'if=' + disk, 'of=' + path, 'bs=1M', 'skip=' + start,
                'count=' + size, 'iflag=skip_bytes,count_bytes', 'conv=sparse', 'status=none'],
                check=True)
            systems += file_systems(path)
    return systems
