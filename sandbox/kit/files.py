"""Files for the CPU-less machine: a tmpfs file and a file with a backing store on a host that exists only here."""

from __future__ import annotations

from mmcore.files.filemap import AddressSpace
from mmcore.files.filespace import FileSpace
from mmcore.files.shmem import ShmemSpace
from mmcore.memory import Memory
from mmcore.physical.ram import PAGE_SIZE


class BareInode:
    """`i_size` in bytes; `addr` a slab object, so that low memory pays for it as it does for a real one."""

    def __init__(self, mem: Memory, size: int) -> None:
        self.addr = mem.slab.cache("test_inode", 512).alloc()
        self.i_size = size
        self.ino = self.addr >> 9


class Host:
    """The other side of a FileSpace: bytes by page, nothing where nothing was written."""

    def __init__(self) -> None:
        self.written: dict[int, bytes] = {}
        self.reads = self.writes = 0

    def read_page(self, index: int) -> bytes:
        self.reads += 1
        return self.written.get(index, b"")

    def write_page(self, index: int, data: memoryview) -> None:
        self.writes += 1
        self.written[index] = bytes(data)

    def cut(self, size: int) -> None:
        """What ftruncate does to the host file."""
        for index in [i for i in self.written if i * PAGE_SIZE >= size]:
            del self.written[index]
        tail = size % PAGE_SIZE
        if tail and size // PAGE_SIZE in self.written:
            self.written[size // PAGE_SIZE] = self.written[size // PAGE_SIZE][:tail].ljust(PAGE_SIZE, b"\0")


class OpenFile:
    """An open file, readable and writable; `count` are its references (the opener's is one)."""

    path = "/test"
    f_mode = 3

    def __init__(self, mapping: AddressSpace, inode: BareInode, host: Host | None) -> None:
        self.mapping = mapping
        self.inode = inode
        self.host = host
        self.count = 1

    def get(self) -> OpenFile:
        self.count += 1
        return self

    def put(self) -> None:
        self.count -= 1
        assert self.count >= 0, "a file is put more often than it was got"

    def truncate(self, size: int) -> None:
        """ftruncate: MustWait before anything changed."""
        if size < self.inode.i_size:
            self.mapping.truncate(size)
            if self.host is not None:
                self.host.cut(size)
        self.inode.i_size = size


def tmpfs_file(mem: Memory, pages: int) -> OpenFile:
    inode = BareInode(mem, pages * PAGE_SIZE)
    return OpenFile(ShmemSpace(mem, inode), inode, None)


def host_file(mem: Memory, contents: list[bytes]) -> OpenFile:
    """`contents`: the bytes of each page."""
    inode = BareInode(mem, len(contents) * PAGE_SIZE)
    host = Host()
    host.written = {index: data.ljust(PAGE_SIZE, b"\0") for index, data in enumerate(contents)}
    return OpenFile(FileSpace(mem, inode, host), inode, host)
