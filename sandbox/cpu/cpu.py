"""One emulated i386 CPU. A task is a context and a page-table root; `run` lets it go on until it needs the kernel.

    kernel:   kind = cpu.run(ctx, cr3, budget)        one call into C and back; no Python runs in between
              SYSCALL? PAGE_FAULT? ...                 ctx.regs and the facts below say what happened
              change ctx.regs, page tables; run again

Page tables are read by the CPU in guest RAM, and it sets Accessed and Dirty bits there. It caches them: see
`flush_tlb`. It also keeps translated code: see `flush_code`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from mmcore.physical.pgtable import U, W
from sandbox.cpu import boot, calibrate, unicorn_api
from sandbox.cpu.boot import GDT_ENTRIES, GDT_TLS_MAX, GDT_TLS_MIN, STACK_OFFSET, USER_CS, USER_DS
from sandbox.cpu.context import Context
from sandbox.cpu.errors import CpuError, CpuGap
from sandbox.cpu.regs import CS, DS, EFLAGS, ES, SS, describe
from sandbox.cpu.trap import PAGE_FAULT
from sandbox.cpu.unicorn_api import ffi, lib

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FIRST_EFLAGS = 0x202
_VM = 1 << 17
_DOUBLE_FAULT, _PAGE_FAULT_VECTOR = 8, 14
_FROM_USER = 4  # of the error code of a page fault
# UC_ERR_READ_UNMAPPED, _WRITE_, _FETCH_: outside physical memory, where no program's page can lie
_UNMAPPED = (6, 7, 8)


class PhysicalMemory(Protocol):
    """Physical memory from 0."""

    @property
    def size(self) -> int:
        """Bytes, whole pages."""

    @property
    def buf(self) -> "ReadableBuffer":
        """The mapped buffer."""

    @property
    def address(self) -> int:
        """Where it lies in this process."""


class Cpu:
    """The engine over one RAM.

    `ram` must outlive the CPU. `paging` is "pae" (8-byte entries, NX enforced) or "2level".
    `boot_cr3` is the physical address of a page-table root that maps `gdt_va` to `gdt_paddr` (supervisor, writable) and
    `boot_va` to `boot_paddr` (supervisor, executable), and nothing below them; every root passed to `run` must share
    those mappings. The boot page is free again afterwards.

    Raises CpuError: NX missing, Unicorn's state not as expected, boot tables wrong.
    """

    __slots__ = ("_uc", "_ram", "_state", "_run", "_template", "_gdt", "_tracks_code")

    def __init__(
        self,
        ram: PhysicalMemory,
        *,
        paging: str,
        boot_cr3: int,
        gdt_va: int,
        gdt_paddr: int,
        boot_va: int,
        boot_paddr: int,
    ) -> None:
        if paging not in boot.PAGING:
            raise CpuError(f"paging {paging!r} is not one of {', '.join(boot.PAGING)}")
        calibrate.offsets()
        memory = memoryview(ram.buf).cast("B")
        _check_boot_mapping(memory, paging, boot_cr3, gdt_va, gdt_paddr, writable=True)
        _check_boot_mapping(memory, paging, boot_cr3, boot_va, boot_paddr, writable=False)

        self._ram = ram
        self._uc = uc = unicorn_api.open_engine(ram.address, ram.size)
        self._tracks_code = paging == "2level"
        self._state = state = unicorn_api.attach(uc, self._tracks_code)
        self._run = lib.trap_run
        gdt = ffi.cast("uint8_t *", ram.address + gdt_paddr)
        self._gdt = memoryview(ffi.buffer(gdt, 8 * GDT_ENTRIES)).cast("B").cast("Q")
        state.gdt, state.gdt_entries, state.idle_cr3 = gdt, GDT_ENTRIES, boot_cr3
        boot.write_gdt(self._gdt)
        boot.start_paging(uc, paging, boot_cr3, gdt_va)
        self._template = self._enter_ring3(memory, gdt_paddr, boot_va, boot_paddr)

    def _enter_ring3(self, memory: memoryview, gdt_paddr: int, boot_va: int, boot_paddr: int) -> Any:
        """The state every program starts from: ring 3, reached by a real iret to an address that is not mapped."""
        state = self._state
        frame = boot.iret_frame(0, _FIRST_EFLAGS, 0)
        stack = gdt_paddr + STACK_OFFSET
        saved_code, saved_stack = memory[boot_paddr], bytes(memory[stack : stack + len(frame)])
        memory[boot_paddr] = 0xCF  # iret
        memory[stack : stack + len(frame)] = frame
        task = unicorn_api.new_task(state)
        lib.trap_task_save(state, task)
        vector = lib.trap_probe(state, task, boot_va)
        memory[boot_paddr] = saved_code
        memory[stack : stack + len(frame)] = saved_stack
        # Running from the template takes the registers below, so what the fault left in it does not matter.
        ffi.memmove(task.regs, bytes(64), 64)
        task.regs[EFLAGS] = _FIRST_EFLAGS
        task.regs[CS], task.regs[SS], task.regs[DS], task.regs[ES] = USER_CS, USER_DS, USER_DS, USER_DS
        state.loaded_cr3 = state.idle_cr3
        state.flush_tlb = state.flush_code = 1
        trial = unicorn_api.new_task(state)
        lib.trap_task_copy(state, trial, task)
        faulted = vector == _PAGE_FAULT_VECTOR and lib.trap_run(state, trial, state.idle_cr3, 1) == PAGE_FAULT
        if not faulted or not state.error_code & _FROM_USER:
            raise CpuError("the emulated CPU does not reach ring 3; install the Unicorn release that rmapbox asks for")
        self.code_pages()  # forget the boot page
        return task

    def new_context(self) -> Context:
        """A context in the state in which Linux starts a program: ring 3, flat segments, EFLAGS 0x202, everything else
        0, FPU as FINIT leaves it."""
        return Context(self)

    def run(self, ctx: Context, cr3: int, budget: int) -> int:
        """Runs a task for at most `budget` (>= 1) basic blocks under the root `cr3`; returns the kind of trap
        (trap.py).

        Equal states and budgets stop at equal places, whatever ran before. Raises CpuError if the engine stopped
        without saying why (a page table that points outside RAM, for instance).
        """
        kind = self._run(self._state, ctx._task, cr3, budget)
        if kind < 0:
            raise self._lost(ctx, cr3)
        return kind

    def door(self) -> tuple[Callable[..., int], Any]:
        """For a loop that cannot afford `run`: (function, state) with function(state, ctx.door(), cr3, budget) -> kind,
        negative where `run` raises `lost`; `state` has the facts of the last trap as attributes (blocks, fault_address,
        error_code, vector), and what `code_pages` would return as pages[0] to pages[page_count - 1]."""
        return self._run, self._state

    def lost(self, ctx: Context, cr3: int) -> CpuError:
        """The error when the function of `door` answers with a negative kind: CpuGap when only the program's state is
        lost, to be killed with it; any other is to be raised."""
        return self._lost(ctx, cr3)

    def _lost(self, ctx: Context, cr3: int) -> CpuError:
        state, regs = self._state, ctx.regs
        if regs[EFLAGS] & _VM:
            why = (
                "an iret with VM set in the popped flags, which a processor ignores and the emulator does not; "
                "remove that instruction"
            )
        elif regs[CS] & 3 != 3:
            why = "a far jump or return to a privilege that a program cannot have; remove that instruction"
        elif state.vector == _DOUBLE_FAULT:
            why = (
                "double fault: a saved exception was not cleared; run the tests in tests/cpu against this Unicorn "
                "release"
            )
        elif state.uc_error in _UNMAPPED:
            return CpuError(
                f"the emulated CPU stopped: no trap (Unicorn error {state.uc_error}); look for a page-table entry "
                f"under "
                f"cr3={cr3:#x} that points outside RAM: {describe(regs)}"
            )
        else:
            why = f"no trap (Unicorn error {state.uc_error})"
        return CpuGap(f"the emulated CPU cannot do what the program did: {why}: {describe(regs)}")

    @property
    def blocks(self) -> int:
        """Basic blocks executed in the last run. A block that faults counts, and counts again when it restarts."""
        return self._state.blocks

    @property
    def fault_address(self) -> int:
        """CR2 of the last PAGE_FAULT."""
        return self._state.fault_address

    @property
    def error_code(self) -> int:
        """Of the last PAGE_FAULT (bits in trap.py) or PROTECTION."""
        return self._state.error_code

    @property
    def vector(self) -> int:
        """Vector of the exception that ended the last run (meaningless after BUDGET); 13 for an `int n` without a user
        gate."""
        return self._state.vector

    def flush_tlb(self) -> None:
        """Forget every cached translation of an address before the next run.

        Owed after clearing A or D, taking a permission or a mapping away, or changing the frame under an address; not
        after mapping what was not present.
        """
        self._state.flush_tlb = 1

    def flush_code(self) -> None:
        """Forget all translated code before the next run.

        Owed when Python changed a frame that may have been executed, and, with PAE, when a page that the guest could
        write gains execute permission: of the guest's stores through a mapping without it, the engine notices the first
        only. A frame mapped writable and not executable here, executable there, at the same time, is not covered by
        this: map the writable side without NX.
        """
        self._state.flush_code = 1

    def set_tls(self, index: int, descriptor: int) -> None:
        """Writes a 64-bit descriptor into GDT entry 6, 7 or 8; FS and GS see it at the next run. Raises ValueError for
        another index.

        Linux: include/asm-i386/segment.h, GDT_ENTRY_TLS_MIN, 2.6.7.
        """
        if not GDT_TLS_MIN <= index <= GDT_TLS_MAX:
            raise ValueError(f"GDT entry {index} is not a TLS entry ({GDT_TLS_MIN}..{GDT_TLS_MAX})")
        self._gdt[index] = descriptor

    @property
    def code_count(self) -> int:
        """How many virtual pages `code_pages` would return. Always 0 with PAE, where NX tells which pages may be
        executed."""
        return self._state.page_count

    def code_pages(self) -> list[int]:
        """Virtual page numbers in which blocks were executed since the last call, in order of first execution (2level;
        empty with PAE)."""
        out = ffi.new("uint32_t[]", max(1, self._state.page_count))
        return list(out[0 : lib.trap_drain_pages(self._state, out)])

    def close(self) -> None:
        """Gives the engine and its memory back. Contexts may be dropped before or after, but not run. Idempotent."""
        if self._uc is not None:
            self._run = _closed
            self._gdt.release()
            self._uc = self._ram = None  # type: ignore[assignment]


def _closed(*_: object) -> NoReturn:
    raise CpuError("this CPU is closed; make a new one")


def _check_boot_mapping(memory: memoryview, paging: str, cr3: int, va: int, paddr: int, *, writable: bool) -> None:
    frame, entry = boot.frame_mapped_at(memory, paging, cr3, va)
    if frame != paddr:
        raise CpuError(
            f"the boot page tables map {va:#x} to {frame:#x}, not to {paddr:#x}; correct the mapping or the address"
        )
    if entry & U or (writable and not entry & W) or (not writable and paging == "pae" and entry >> 63):
        raise CpuError(
            f"the boot page tables map {va:#x} with entry {entry:#x}; it must be supervisor, "
            f"{'writable' if writable else 'executable'}"
        )
