"""What a kernel relies on: registers go in and out, slices are exact, faults restart, A and D bits, TLS, FPU,
translated code."""

import random
import struct

import pytest

from sandbox.cpu import Cpu, CpuError
from sandbox.cpu.insn import is_rdtsc
from sandbox.cpu.regs import EAX, EBX, ECX, EDI, EDX, EFLAGS, EIP, ESI, ESP, FS, GS, describe
from sandbox.cpu.trap import BUDGET, DEBUG, FPU, NAMES, PAGE_FAULT, PROTECTION, SYSCALL
from tests.cpu.conftest import BOOT, BOOT_VA, CODE, DATA, EXIT, GDT, GDT_VA, NX, PAGE, STACK, A, Bench, D, P, U, W

RW = P | W | U | NX


def imm(value):
    return struct.pack("<I", value & 0xFFFFFFFF)


def data32(bench, frame, offset=0):
    return struct.unpack_from("<I", bench.ram.buf, frame + offset)[0]


# --- registers


def test_registers_are_what_python_wrote_and_what_the_guest_left(bench):
    bench.load(b"\x93" + EXIT)  # xchg eax, ebx
    values = [0x11111111 * (i + 1) for i in range(8)]
    for i, value in enumerate(values):
        bench.regs[i] = value
    assert bench.run() == SYSCALL
    values[EAX], values[EBX] = values[EBX], values[EAX]
    assert list(bench.regs[:8]) == values
    bench.regs[EAX] = 0xFFFFFFFF
    bench.regs[EIP] = CODE
    assert bench.run() == SYSCALL and bench.regs[EBX] == 0xFFFFFFFF


def test_flags_go_in_and_out(bench):
    bench.load(b"\x9f" + EXIT)  # lahf
    for flags in (0x8D5, 0x400, 0x1, 0x40):
        bench.regs[EIP], bench.regs[EFLAGS] = CODE, flags
        assert bench.run() == SYSCALL
        assert bench.regs[EFLAGS] == flags | 0x202
        assert bench.regs[EAX] >> 8 & 0xD7 == (flags | 2) & 0xD7


def test_a_program_cannot_be_given_privileged_flags(bench):
    bench.load(b"\xfa")  # cli: #GP unless IOPL were 3
    bench.regs[EFLAGS] = 0x23000
    assert bench.run() == PROTECTION and bench.regs[EFLAGS] == 0x202


def test_reset_and_copy(bench):
    bench.load(b"\x0f\x28\xc1\xd9\xe8" + EXIT)  # movaps xmm0, xmm1; fld1
    fresh = bench.cpu.new_context()
    bench.regs[EDX] = 9
    bench.run()
    child = bench.ctx.copy()
    assert list(child.regs) == list(bench.regs) and child.fpu_state() == bench.ctx.fpu_state() != fresh.fpu_state()
    child.regs[EDX] = 10
    assert bench.regs[EDX] == 9
    bench.ctx.reset()
    assert list(bench.regs) == list(fresh.regs) and bench.ctx.fpu_state() == fresh.fpu_state()
    assert describe(fresh.regs).endswith("eflags=00000202 cs=73 ss=7b ds=7b es=7b fs=0 gs=0")


# --- slices

# a loop of three blocks: L: inc ecx; test cl, 3; jz M; add edx, ecx; M: cmp ecx, N; jb L; exit
LOOP = b"\x41\xf6\xc1\x03\x74\x02\x01\xca\x81\xf9" + imm(3000) + b"\x72\xf0" + EXIT


def stops(bench, budgets):
    bench.ctx.reset()
    bench.regs[EIP] = CODE
    seen = []
    for budget in budgets:
        kind = bench.run(budget=budget)
        seen.append((kind, bench.cpu.blocks, *bench.regs[:10]))
        if kind == SYSCALL:
            return seen
    raise AssertionError("budgets too small")


def test_equal_budgets_stop_at_equal_places(bench):
    bench.load(LOOP)
    dice = random.Random(7)
    budgets = [dice.choice((1, 2, 3, 7, 50, 997)) for _ in range(4000)]
    first = stops(bench, budgets)
    assert stops(bench, budgets) == first
    bench.cpu.flush_code()
    bench.cpu.flush_tlb()
    assert stops(bench, budgets) == first


def test_slicing_changes_nothing(bench):
    bench.load(LOOP)
    whole = stops(bench, [1 << 40])
    for size in (1, 2, 7, 1000):
        sliced = stops(bench, [size] * 10_000)
        assert all(kind == BUDGET and blocks == size for kind, blocks, *_ in sliced[:-1])
        assert sliced[-1][2:] == whole[-1][2:]
        assert sum(stop[1] for stop in sliced) == whole[0][1]


def test_flushing_translations_every_slice_changes_no_count(bench):
    bench.load(LOOP)
    plain = stops(bench, [13] * 1000)
    bench.ctx.reset()
    bench.regs[EIP] = CODE
    for stop in plain:
        bench.cpu.flush_code()
        bench.cpu.flush_tlb()
        assert (bench.run(budget=13), bench.cpu.blocks, *bench.regs[:10]) == stop


def test_a_budget_of_nothing_runs_nothing(bench):
    bench.load(b"\x40" + EXIT)
    for budget in (0, -3):
        assert bench.run(budget=budget) == BUDGET
        assert (bench.cpu.blocks, bench.regs[EAX], bench.regs[EIP]) == (0, 0, CODE)


def test_two_tasks_interleaved_do_as_each_alone(bench):
    bench.load(LOOP)
    alone = stops(bench, [1 << 40])[-1][2:]
    tasks = [bench.cpu.new_context() for _ in range(3)]
    for task in tasks:
        task.regs[EIP] = CODE
    left, turn = list(tasks), 0
    while left:
        task = left[turn % len(left)]
        turn += 1
        if bench.run(budget=5 + turn % 3, ctx=task) == SYSCALL:
            left.remove(task)
    assert all(tuple(task.regs[:10]) == alone for task in tasks)


# --- faults restart


@pytest.mark.parametrize("backwards", [False, True])
def test_rep_movs_restarts_after_each_fault(bench, backwards):
    pages = 4
    source = [bench.frame() for _ in range(pages)]
    for i, frame in enumerate(source):
        bench.ram.buf[frame : frame + PAGE] = bytes((i * 7 + j) & 0xFF for j in range(PAGE))
    bench.load((b"\xfd" if backwards else b"\xfc") + b"\xf3\xa5" + EXIT)
    size = (pages - 1) * PAGE
    start = size - 4 if backwards else 0
    bench.regs[ECX], bench.regs[ESI], bench.regs[EDI] = size // 4, 0x10000123 + start, 0x20000FFE + start
    target, faults = {}, 0
    while (kind := bench.run()) == PAGE_FAULT:
        faults += 1
        page = bench.cpu.fault_address & ~0xFFF
        if page < 0x20000000:
            bench.map(page, source[(page - 0x10000000) // PAGE], P | U | NX)
        else:
            target[page] = bench.map(page, None, RW)
    assert kind == SYSCALL and bench.regs[ECX] == 0 and faults == pages + len(target)
    copied = b"".join(bench.ram.buf[target[page] : target[page] + PAGE] for page in sorted(target))
    whole = b"".join(bench.ram.buf[frame : frame + PAGE] for frame in source)
    assert copied[0xFFE : 0xFFE + size] == whole[0x123 : 0x123 + size]


def test_a_store_across_two_pages_is_all_or_nothing(bench):
    bench.load(b"\xc7\x05" + imm(DATA + PAGE - 2) + imm(0x44332211) + EXIT)
    first = bench.map(DATA, None, RW)
    assert bench.run() == PAGE_FAULT
    assert (bench.cpu.fault_address, bench.cpu.error_code, bench.regs[EIP]) == (DATA + PAGE, 6, CODE)
    assert bench.ram.buf[first + PAGE - 2 : first + PAGE] == b"\0\0"
    second = bench.map(DATA + PAGE, None, RW)
    assert bench.run() == SYSCALL
    assert bench.ram.buf[first + PAGE - 2 : first + PAGE] + bench.ram.buf[second : second + 2] == b"\x11\x22\x33\x44"


def test_an_instruction_across_two_pages(bench):
    frame = bench.load(b"\x90")
    bench.ram.buf[frame + PAGE - 2 : frame + PAGE] = b"\xb8\x05"
    bench.regs[EIP] = CODE + PAGE - 2
    assert bench.run() == PAGE_FAULT and bench.cpu.fault_address == CODE + PAGE
    second = bench.map(CODE + PAGE, None, P | U)
    bench.ram.buf[second : second + 5] = b"\0\0\0" + EXIT
    assert bench.run() == SYSCALL and bench.regs[EAX] == 5


def test_push_at_a_page_edge_leaves_esp(bench):
    bench.load(b"\x68" + imm(77) + EXIT)
    bench.map(STACK, None, RW)
    bench.regs[ESP] = STACK
    assert bench.run() == PAGE_FAULT
    assert (bench.regs[ESP], bench.cpu.fault_address) == (STACK, STACK - 4)
    frame = bench.map(STACK - PAGE, None, RW)
    assert bench.run() == SYSCALL and bench.regs[ESP] == STACK - 4 and data32(bench, frame, PAGE - 4) == 77


def test_error_code_bits(bench):
    bench.load(b"\xa1" + imm(DATA) + b"\xa3" + imm(DATA) + EXIT)
    bench.pte(DATA, make=True)
    assert bench.run() == PAGE_FAULT and bench.cpu.error_code == 4
    bench.map(DATA, None, P | U)
    assert bench.run() == PAGE_FAULT and bench.cpu.error_code == 7
    bench.map(DATA, None, RW)
    bench.cpu.flush_tlb()
    assert bench.run() == SYSCALL


# --- accessed, dirty and the TLB


def test_accessed_and_dirty_bits(bench):
    bench.load(b"\xa1" + imm(DATA) + EXIT + b"\xa3" + imm(DATA) + EXIT)
    bench.with_data()
    at = bench.pte(DATA)
    assert not bench.entry(at) & (A | D)
    bench.run()
    assert bench.entry(at) & (A | D) == A
    bench.run()
    assert bench.entry(at) & (A | D) == A | D
    for step, expected in ((CODE, A), (CODE + 7, A | D)):
        bench.entry(at, bench.entry(at) & ~(A | D))
        bench.cpu.flush_tlb()
        bench.regs[EIP] = step
        bench.run()
        assert bench.entry(at) & (A | D) == expected


def test_not_present_to_present_needs_no_flush_but_a_new_frame_does(bench):
    bench.load(b"\xa1" + imm(DATA) + EXIT)
    bench.pte(DATA, make=True)
    assert bench.run() == PAGE_FAULT
    zero, copy = bench.map(DATA, None, P | U | NX), bench.frame()
    bench.ram.buf[copy] = 9
    assert bench.run() == SYSCALL and bench.regs[EAX] == 0
    bench.map(DATA, copy, RW)
    bench.cpu.flush_tlb()
    bench.regs[EIP] = CODE
    assert bench.run() == SYSCALL and bench.regs[EAX] == 9 and data32(bench, zero) == 0


def test_supervisor_boot_page_is_free_afterwards(bench):
    bench.ram.buf[BOOT : BOOT + PAGE] = b"\xff" * PAGE
    bench.load(EXIT)
    assert bench.run() == SYSCALL


# --- segments


def descriptor(base, limit=0xFFFFF):
    """What set_thread_area makes of a flat 32-bit data segment, limit in pages."""
    return limit & 0xFFFF | (base & 0xFFFFFF) << 16 | 0xF2 << 40 | (limit >> 16 | 0xC) << 48 | (base >> 24) << 56


def test_tls_through_gs(bench):
    load_gs = b"\xb8\x33\0\0\0\x8e\xe8"  # mov eax, 0x33; mov gs, ax
    bench.load(load_gs + EXIT + b"\x65\xa1\x04\0\0\0" + EXIT)  # mov eax, gs:[4]
    frame = bench.with_data()
    bench.ram.buf[frame + 4 : frame + 8] = imm(1)
    bench.ram.buf[frame + 0x104 : frame + 0x108] = imm(2)
    assert bench.run() == PROTECTION and bench.cpu.error_code == 0x30  # the entry is empty
    bench.cpu.set_tls(6, descriptor(DATA))
    assert bench.run() == SYSCALL and bench.regs[GS] == 0x33
    assert bench.run() == SYSCALL and bench.regs[EAX] == 1
    # a thread with its own block: same selector, other descriptor
    thread = bench.ctx.copy()
    thread.regs[EIP] = bench.regs[EIP] = CODE + len(load_gs) + 2
    bench.cpu.set_tls(6, descriptor(DATA + 0x100))
    assert bench.run(ctx=thread) == SYSCALL and thread.regs[EAX] == 2
    bench.cpu.set_tls(6, descriptor(DATA))
    assert bench.run() == SYSCALL and bench.regs[EAX] == 1


def test_selectors_from_python_and_ones_nobody_may_load(bench):
    bench.load(b"\x64\xa1\0\0\0\0" + EXIT)  # mov eax, fs:[0]
    frame = bench.with_data()
    bench.ram.buf[frame : frame + 4] = imm(42)
    bench.cpu.set_tls(8, descriptor(DATA))
    bench.regs[FS] = 0x43
    assert bench.run() == SYSCALL and (bench.regs[EAX], bench.regs[FS]) == (42, 0x43)
    for selector in (0x3B, 0x63, 0x6B, 0x47, 0x7FFB):  # empty, kernel code, kernel data, an LDT's, beyond the table
        bench.regs[EIP], bench.regs[FS] = CODE, selector
        bench.run()
        assert bench.regs[FS] == 0
    with pytest.raises(ValueError, match="12 is not a TLS entry"):
        bench.cpu.set_tls(12, 0)


# --- FPU


def test_fpu_state_is_each_tasks_own(bench):
    # fld1; fldpi; movd xmm3, eax; exit; fstp qword [DATA]; movd [DATA+8], xmm3; exit
    bench.load(
        b"\xd9\xe8\xd9\xeb\x66\x0f\x6e\xd8"
        + EXIT
        + b"\xdd\x1d"
        + imm(DATA)
        + b"\x66\x0f\x7e\x1d"
        + imm(DATA + 8)
        + EXIT
    )
    frame = bench.with_data()
    other = bench.ctx.copy()
    bench.regs[EAX], other.regs[EAX] = 5, 6
    for ctx in (bench.ctx, other):
        assert bench.run(ctx=ctx) == SYSCALL
    image = bench.ctx.fpu_state()
    assert image[4] == 0b11000000 and struct.unpack_from("<H", image, 2)[0] >> 11 & 7 == 6
    assert image[32:42].hex() == "35c26821a2da0fc90040" and image[160 + 48] == 5
    patched = bytearray(image)
    patched[160 + 48] = 7
    bench.ctx.set_fpu_state(bytes(patched))
    assert bench.ctx.fpu_state() == bytes(patched)
    for ctx, expected in ((bench.ctx, 7), (other, 6)):
        assert bench.run(ctx=ctx) == SYSCALL
        assert data32(bench, frame, 8) == expected
        assert struct.unpack_from("<d", bench.ram.buf, frame)[0] == pytest.approx(3.141592653589793)
    with pytest.raises(ValueError, match="512 bytes"):
        other.set_fpu_state(bytes(108))


def test_rounding_control_survives_a_switch(bench):
    # fldcw [DATA]; exit; fld qword [DATA+8]; fistp dword [DATA+16]; exit
    bench.load(b"\xd9\x2d" + imm(DATA) + EXIT + b"\xdd\x05" + imm(DATA + 8) + b"\xdb\x1d" + imm(DATA + 16) + EXIT)
    frame = bench.with_data()
    struct.pack_into("<H6xd", bench.ram.buf, frame, 0xB7F, 1.5)  # round up
    bench.run()
    restored = bench.cpu.new_context()
    restored.set_fpu_state(bench.ctx.fpu_state())
    for ctx, value in ((bench.ctx, 2.25), (restored, 3.25)):
        struct.pack_into("<d", bench.ram.buf, frame + 8, value)
        ctx.regs[EIP] = CODE + 8
        assert bench.run(ctx=ctx) == SYSCALL and data32(bench, frame, 16) == int(value) + 1


def test_unmasked_fpu_error_is_a_trap(bench):
    bench.load(b"\xd9\x2d" + imm(DATA) + b"\xd9\xe8\xd9\xee\xde\xf9\x9b" + EXIT)  # fldcw; fld1; fldz; fdivp; fwait
    frame = bench.with_data()
    struct.pack_into("<H", bench.ram.buf, frame, 0x37B)
    assert bench.run() == FPU and bench.cpu.vector == 16


# --- code


@pytest.mark.parametrize("alias", [False, True])
def test_self_modifying_code(bench, alias):
    target = 0x30000000 if alias else CODE
    # L: mov ebx, 1; inc byte [operand]; dec ecx; jnz L; exit
    code = b"\xbb\x01\0\0\0\xfe\x05" + imm(target + 1) + b"\x49\x75\xf2" + EXIT
    frame = bench.load(code)
    bench.map(CODE, frame, P | W | U)
    bench.map(0x30000000, frame, P | W | U)
    bench.regs[ECX] = 5
    assert bench.run() == SYSCALL and bench.regs[EBX] == 5 and bench.ram.buf[frame + 1] == 6


def test_a_recycled_frame_runs_its_new_code_in_another_address_space(bench):
    frame = bench.load(b"\xb0\x01" + EXIT)
    bench.run()
    bench.ram.buf[frame + 1] = 2
    cr3 = bench.root()
    bench.map(CODE, frame, P | U, cr3)
    bench.cpu.flush_code()
    bench.regs[EIP] = CODE
    assert bench.run(cr3=cr3) == SYSCALL and bench.regs[EAX] == 2


def test_executed_pages_are_noted_without_nx():
    bench = Bench("2level")
    bench.load(b"\x90" * (PAGE - 1) + b"\x40" + EXIT)  # crosses into a second page
    bench.load(EXIT, va=0x50000000)
    assert bench.cpu.code_count == 0
    for address in (CODE, CODE, 0x50000000):
        bench.regs[EIP] = address
        assert bench.run() == SYSCALL
    assert bench.cpu.code_count == 3
    assert bench.cpu.code_pages() == [CODE >> 12, (CODE >> 12) + 1, 0x50000]
    assert bench.cpu.code_count == 0 and bench.cpu.code_pages() == []
    bench.regs[EIP] = 0x50000000
    bench.run()
    assert bench.cpu.code_pages() == [0x50000]


def test_many_executed_pages():
    bench = Bench("2level")
    pages = [0x10000 + 33 * i for i in range(600)]
    for i, page in enumerate(pages):
        target = pages[(i + 1) % len(pages)] << 12
        bench.load(b"\xe9" + imm(target - (page << 12) - 5), va=page << 12)
    bench.regs[EIP] = pages[0] << 12
    for _ in range(2):
        assert bench.run(budget=600) == BUDGET
        assert bench.cpu.code_pages() == pages


def test_pae_notes_nothing(pae):
    pae.load(EXIT)
    pae.run()
    assert pae.cpu.code_count == 0 and pae.cpu.code_pages() == []


def test_single_step(bench):
    bench.load(b"\x40\x40\x40" + EXIT)
    bench.regs[EFLAGS] |= 0x100
    for i in range(3):
        assert bench.run() == DEBUG
        assert (bench.regs[EAX], bench.regs[EIP]) == (i + 1, CODE + i + 1)


@pytest.mark.parametrize(
    "code, length",
    [
        (b"\x0f\x31", 2),
        (b"\x0f\x31\x90", 2),
        (b"\x66\xf3\x0f\x31", 4),
        (b"\x0f", 0),
        (b"", 0),
        (b"\xf4", 0),
        (b"\xf0\x0f\x31", 0),
        (b"\x66" * 14 + b"\x0f\x31", 0),
    ],
)
def test_is_rdtsc(code, length):
    assert is_rdtsc(code) == length


# --- starting and stopping


def test_physical_memory_above_four_gigabytes():
    bench = Bench("pae", size=5 << 30)
    high = (5 << 30) - PAGE
    bench.load(b"\xc6\x05" + imm(DATA) + b"\x55" + EXIT)
    bench.map(DATA, high, RW)
    assert bench.run() == SYSCALL and bench.ram.buf[high] == 0x55


def test_a_wrong_boot_mapping_is_refused_before_anything_runs(bench):
    places = {"gdt_va": GDT_VA, "gdt_paddr": GDT, "boot_va": BOOT_VA, "boot_paddr": BOOT}
    for wrong, message in (
        ({"gdt_va": 0xFF000000}, "do not map 0xff000000"),
        ({"gdt_paddr": 0x5000}, "map 0xffff0000 to 0x1000, not to 0x5000"),
        ({"boot_va": GDT_VA}, "not to 0x2000"),
        ({"boot_cr3": 0x7FFFFFE0}, "do not map"),
        ({"paging": "3level"}, "not one of pae, 2level"),
    ):
        with pytest.raises(CpuError, match=message):
            Cpu(bench.ram, **{"paging": bench.paging, "boot_cr3": bench.boot_cr3, **places, **wrong})
    bench.entry(bench.pte(GDT_VA, bench.boot_cr3), GDT | P | W | U)
    with pytest.raises(CpuError, match="must be supervisor"):
        Cpu(bench.ram, paging=bench.paging, boot_cr3=bench.boot_cr3, **places)


def test_a_closed_cpu_says_so(bench):
    bench.load(EXIT)
    bench.cpu.close()
    bench.cpu.close()
    with pytest.raises(CpuError, match="closed"):
        bench.run()


def test_every_kind_has_a_name():
    assert NAMES[SYSCALL] == "SYSCALL" and NAMES[DEBUG] == "DEBUG" and len(NAMES) == 12
