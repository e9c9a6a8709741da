"""A whole machine in a few lines, for tests of the kernel: programs are C sources compiled with the bundled runtime."""

from __future__ import annotations

from pathlib import Path

from mmcore.memory import Memory, MemoryConfig
from sandbox.fs.vfs import Vfs
from sandbox.kernel.boot import boot_cpu
from sandbox.kernel.kernel import Ending, Kernel
from sandbox.schemes.registry import load_scheme
from sandbox.syscalls import load_all


class Box:
    """Boots a machine. `run` executes an image and keeps what it wrote in `out` and `err`."""

    def __init__(
        self,
        memory: int = 32 << 20,
        swap: int = 16 << 20,
        paging: str = "pae",
        scheme: str = "anon_vma",
        swap_areas: tuple[tuple[int, int | None], ...] = (),
        **options,
    ) -> None:
        load_all()
        self.mem = Memory(
            MemoryConfig(memory_bytes=memory, swap_bytes=swap, swap_areas=swap_areas, paging=paging, overcommit=1),
            load_scheme(scheme),
            tasks=lambda: self.kernel.oom_candidates(),
            shmem_zero_setup=lambda size, reserve: self.vfs.shmem_zero_setup(size, reserve),
        )
        self.cpu = boot_cpu(self.mem)
        self.vfs = Vfs(self.mem)
        self.kernel = Kernel(self.mem, self.cpu, self.vfs, **options)
        self.vfs.attach(self.kernel)
        self._out: list[bytes] = []
        self._err: list[bytes] = []

    def run(
        self, image: bytes | Path, *args: str, env: dict[str, str] | None = None, stdin: bytes | None = None
    ) -> Ending:
        data = image if isinstance(image, bytes) else image.read_bytes()
        name = "/bin/prog" if isinstance(image, bytes) else f"/bin/{image.name}"
        self.vfs.write_file(name, data, 0o755)
        files = self.vfs.stdio(stdin, self._out.append, self._err.append)
        envp = [f"{key}={value}".encode() for key, value in (env or {"PATH": "/bin"}).items()]
        self.kernel.spawn_init(
            name.encode(), [name.encode(), *(arg.encode() for arg in args)], envp, files, self.vfs.fs
        )
        return self.kernel.run()

    @property
    def out(self) -> str:
        return b"".join(self._out).decode()

    @property
    def err(self) -> str:
        return b"".join(self._err).decode()
