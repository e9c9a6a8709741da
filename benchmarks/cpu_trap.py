"""What a trap costs, and what the block budget costs, on this machine (`python benchmarks/cpu_trap.py [--quick]`).

Each figure is the best of several rounds, since other work on the machine can only add to it. The last table runs the
same guest code on a Unicorn engine without any hook: the two columns differ by what the sandbox's CPU adds.
"""

import argparse
import ctypes
import sys
import time
from pathlib import Path

from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn.x86_const import UC_X86_REG_EAX, UC_X86_REG_EIP, UC_X86_REG_ESP

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmcore.memory import Memory, MemoryConfig
from mmcore.paging.lifecycle import mm_alloc
from mmcore.physical.frames import USER
from mmcore.physical.gfp import GFP_HIGHUSER
from sandbox.cpu import boot
from sandbox.cpu.regs import EAX, ECX, EIP
from sandbox.cpu.trap import BUDGET, PAGE_FAULT, SYSCALL
from sandbox.cpu.unicorn_api import MODEL
from sandbox.kernel.boot import boot_cpu
from sandbox.schemes.registry import load_scheme
from tests.cpu.conftest import CODE, DATA, NX, STACK, Bench

SYSCALL_LOOP = b"\xcd\x80\xeb\xfc"  # int 0x80; jmp back
# L: mov [eax], eax; add eax, 4096; dec ecx; jnz L; int 0x80
TOUCH_LOOP = b"\x89\x00\x05\x00\x10\x00\x00\x49\x75\xf6\xcd\x80"
HEAP = 0x40000000
FAULT_LOOP = b"\xa1" + DATA.to_bytes(4, "little") + b"\xeb\xf9"  # mov eax, [DATA]; jmp back
# L: dec eax; jnz L
SHORT_LOOP = b"\x48\x75\xfd"
# twelve instructions: mov ecx, eax; and ecx, 63; mov [DATA+ecx*4], eax; add edx, [DATA]; six adds; dec eax; jnz
MEMORY_LOOP = (
    b"\x89\xc1\x83\xe1\x3f\x89\x04\x8d" + DATA.to_bytes(4, "little") + b"\x03\x15" + DATA.to_bytes(4, "little")
    + b"\x01\xd3\x01\xde\x01\xf7\x01\xd3\x01\xde\x01\xf7\x48"
)  # fmt: skip
MEMORY_LOOP += b"\x75" + (256 - len(MEMORY_LOOP) - 2).to_bytes(1, "little")
COUNT = 20_000_000
HLT = b"\xf4"


def best(rounds, once):
    return min(once() for _ in range(rounds))


def trap_us(n, rounds=5):
    bench = Bench("pae")
    bench.load(SYSCALL_LOOP)
    run, ctx, regs, cr3 = bench.cpu.run, bench.ctx, bench.regs, bench.cr3

    def plain():
        start = time.perf_counter()
        for _ in range(n):
            run(ctx, cr3, 100_000)
        return (time.perf_counter() - start) / n * 1e6

    def with_registers():
        start = time.perf_counter()
        for _ in range(n):
            if run(ctx, cr3, 100_000) == SYSCALL:
                regs[EAX] = regs[EAX] + 1 & 0xFFFF
        return (time.perf_counter() - start) / n * 1e6

    return best(rounds, plain), best(rounds, with_registers)


def fault_us(n):
    bench = Bench("pae")
    bench.load(FAULT_LOOP)
    run, ctx, cr3, cpu = bench.cpu.run, bench.ctx, bench.cr3, bench.cpu
    bench.pte(DATA, make=True)

    def once():
        start = time.perf_counter()
        for _ in range(n):
            assert run(ctx, cr3, 100_000) == PAGE_FAULT and cpu.fault_address == DATA and cpu.error_code == 4
        return (time.perf_counter() - start) / n * 1e6

    return best(5, once)


def noop_fault_us(pages):
    """A store to one fresh page after the other, in RAM as the machine has it; a handler that does nothing but write
    the PTE. Microseconds per fault."""
    mem = Memory(MemoryConfig(memory_bytes=(pages << 12) + (48 << 20)), load_scheme("anon_vma"))
    cpu = boot_cpu(mem)
    mm = mm_alloc(mem)
    ctx = cpu.new_context()
    frames = [mem.pages.alloc_page(GFP_HIGHUSER, USER) for _ in range(pages + 1)]
    for at in range(0, pages << 12, 1 << mem.pgtables.SHIFT):
        mem.pgtables.pte_alloc(mm, HEAP + at)
    mem.pgtables.pte_alloc(mm, CODE)
    ptes = mem.pgtables.ptes
    code = frames.pop()
    mem.ram.write(code << 12, TOUCH_LOOP)
    ptes[mem.pgtables.pte_index(mm.pgd, CODE)] = code << 12 | 5
    ctx.regs[EIP], ctx.regs[EAX], ctx.regs[ECX] = CODE, HEAP, pages
    where = [mem.pgtables.pte_index(mm.pgd, HEAP + (i << 12)) for i in range(pages)]
    run, cr3 = cpu.run, mm.pgd
    start = time.perf_counter()
    for i, pfn in zip(where, frames):
        assert run(ctx, cr3, 100_000) == PAGE_FAULT and cpu.error_code == 6
        ptes[i] = pfn << 12 | NX | 0x67
    assert run(ctx, cr3, 100_000) == SYSCALL
    spent = time.perf_counter() - start
    cpu.close()
    return spent / pages * 1e6


def switch_us(n):
    bench = Bench("pae")
    other_cr3 = bench.root()
    bench.load(SYSCALL_LOOP)
    bench.load(SYSCALL_LOOP, cr3=other_cr3)
    other = bench.ctx.copy()
    run = bench.cpu.run

    def once():
        start = time.perf_counter()
        for _ in range(n // 2):
            run(bench.ctx, bench.cr3, 100_000)
            run(other, other_cr3, 100_000)
        return (time.perf_counter() - start) / n * 1e6

    return best(5, once)


def budgeted(code, count, paging):
    bench = Bench(paging)
    bench.load(code + b"\xcd\x80")
    bench.with_data()
    bench.regs[EAX] = 100
    assert bench.run(budget=1 << 40) == SYSCALL  # translated

    def once():
        bench.regs[EIP], bench.regs[EAX] = CODE, count
        start = time.perf_counter()
        while (kind := bench.run(budget=100_000)) == BUDGET:
            pass
        assert kind == SYSCALL
        return time.perf_counter() - start

    return once


def unhooked(code, count, paging):
    """The same code and page tables under a bare engine at ring 0, ended by hlt."""
    bench = Bench(paging)
    bench.load(code + HLT)
    bench.with_data()
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.ctl_set_cpu_model(MODEL)
    uc.mem_map_ptr(0, bench.ram.size, 7, ctypes.c_void_p(bench.ram.address))
    boot.start_paging(uc, paging, bench.cr3, 0xFFFF0000)
    uc.reg_write(UC_X86_REG_ESP, STACK + 4096)

    def once():
        uc.reg_write(UC_X86_REG_EAX, count)
        start = time.perf_counter()
        uc.emu_start(CODE, 0xFFFFFFF0)
        assert bench.ram.buf and uc.reg_read(UC_X86_REG_EAX) == 0 and CODE < uc.reg_read(UC_X86_REG_EIP) < CODE + 4096
        return time.perf_counter() - start

    once()
    return once


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    scale = 10 if parser.parse_args().quick else 1
    n, count = 200_000 // scale, COUNT // scale
    plain, registers = trap_us(n)
    print(f"no-op trap                              {plain:7.2f} us")
    print(f"no-op trap, EAX read and written        {registers:7.2f} us")
    print(f"no-op page fault, CR2 and error read    {fault_us(n):7.2f} us")
    print(f"no-op page fault, fresh page given      {noop_fault_us(16384 // scale):7.2f} us")
    print(f"trap with a change of address space     {switch_us(n):7.2f} us")
    for paging in boot.PAGING:
        for name, code in (("2-instruction loop", SHORT_LOOP), ("12-instruction memory loop", MEMORY_LOOP)):
            ours_once, bare_once = budgeted(code, count, paging), unhooked(code, count, paging)
            rounds = [(ours_once(), bare_once()) for _ in range(7)]  # taking turns, so that both see the same machine
            ours, bare = min(ours for ours, _ in rounds), min(bare for _, bare in rounds)
            print(f"{paging:7} {name:27} {ours:6.3f} s, unhooked {bare:6.3f} s, ratio {ours / bare:.2f}")


if __name__ == "__main__":
    main()
