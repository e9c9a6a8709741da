"""One canary for each trap of Unicorn's that the CPU cures, named by its number in docs/bug-classes.md.

When one fails under a new Unicorn, either the cure is broken or the trap is gone.
"""

import signal
import struct

import numpy as np
import pytest
from unicorn.x86_const import UC_CPU_X86_PENTIUM3

from sandbox.cpu import CpuError, CpuGap, calibrate, unicorn_api
from sandbox.cpu.regs import CS, EAX, EBX, ECX, EDX, EFLAGS, EIP, ESI, ESP, SS
from sandbox.cpu.trap import BREAKPOINT, BUDGET, DIVIDE, ILLEGAL, OVERFLOW, PAGE_FAULT, PROTECTION, SYSCALL
from tests.cpu.conftest import BOOT_VA, CODE, DATA, EXIT, GDT_VA, NX, PAGE, STACK, P, U, W

FETCH = {"pae": 0x14, "2level": 0x4}  # error code of a user's fetch from an unmapped page


def imm(value):
    return struct.pack("<I", value)


def test_t01_every_fault_arrives_as_itself(bench):
    bench.load(b"\xa1" + imm(DATA) + b"\xeb\xf9")
    bench.pte(DATA, make=True)
    for _ in range(5):
        assert bench.run() == PAGE_FAULT
        assert (bench.cpu.fault_address, bench.cpu.error_code, bench.regs[EIP]) == (DATA, 4, CODE)
    for address in (0x0A000000, 0x0B000000):
        bench.regs[EIP] = address
        assert bench.run() == PAGE_FAULT
        assert (bench.cpu.fault_address, bench.cpu.error_code) == (address, FETCH[bench.paging])


def test_t01_general_protection_after_page_fault(bench):
    bench.load(b"\xa1" + imm(DATA) + b"\xf4")
    assert bench.run() == PAGE_FAULT
    for _ in range(3):
        bench.regs[EIP] = CODE + 5
        assert bench.run() == PROTECTION  # contributory after a page fault would be a double fault


def test_t02_calibration_finds_each_offset_once():
    offsets = calibrate.offsets()
    assert offsets.cr3 == offsets.cr2 + 8
    assert offsets.eip == offsets.gpr + 16 * 8
    assert len({offsets.error_code, offsets.is_int, offsets.old_exception}) == 3


def test_t02_an_ambiguous_state_is_refused():
    with pytest.raises(CpuError, match="cannot find the error code"):
        calibrate._unique("error code", "i", [struct.pack("<4i", 7, 1, 7, 0)], [7])
    with pytest.raises(CpuError, match="pip install unicorn"):
        calibrate._unique("error code", "i", [bytes(16)], [7])


def test_t03_facts_survive_the_end_of_the_run(bench):
    frame = bench.load(EXIT)  # then the address after the run's end, and 0, are unmapped
    bench.ram.buf[frame + 4094 : frame + 4096] = EXIT
    bench.regs[EIP] = CODE + 4094
    assert bench.run() == SYSCALL and bench.regs[EIP] == CODE + PAGE
    bench.load(b"\xc6\x05" + imm(DATA + 5) + b"\x01", va=0x09000000)
    bench.map(DATA, None, P | U)
    assert bench.run() == PAGE_FAULT
    assert (bench.cpu.fault_address, bench.cpu.error_code) == (DATA + 5, 7)


def test_t04_address_spaces_do_not_leak(bench):
    code = b"\xa1" + imm(DATA) + EXIT
    tasks = []
    for value in (111, 222):
        cr3 = bench.root()
        bench.load(code, cr3=cr3)
        frame = bench.map(DATA, None, P | U | W, cr3)
        bench.ram.buf[frame : frame + 4] = imm(value)
        tasks.append((bench.ctx.copy(), cr3, value))
    for _ in range(3):
        for ctx, cr3, value in tasks:
            ctx.regs[EIP] = CODE
            assert bench.run(ctx=ctx, cr3=cr3) == SYSCALL
            assert ctx.regs[EAX] == value


@pytest.mark.parametrize("store", [False, True])
def test_t05_the_guest_is_really_in_ring_3(bench, store):
    bench.load((b"\xa3" if store else b"\xa1") + imm(GDT_VA))
    assert bench.run() == PAGE_FAULT
    assert (bench.cpu.fault_address, bench.cpu.error_code) == (GDT_VA, 7 if store else 5)
    assert bench.regs[CS] == 0x73 and bench.regs[SS] == 0x7B
    bench.regs[EIP] = BOOT_VA
    assert bench.run() == PAGE_FAULT
    assert bench.cpu.error_code & 5 == 5


def test_t06_python_rewrites_a_code_page(bench):
    frame = bench.load(b"\xb8" + imm(1) + EXIT)
    assert bench.run() == SYSCALL and bench.regs[EAX] == 1
    bench.ram.buf[frame + 1] = 2
    bench.regs[EIP] = CODE
    bench.run()
    assert bench.regs[EAX] == 1, "translations are dropped by themselves now: flush_code may go"
    bench.cpu.flush_code()
    bench.regs[EIP] = CODE
    assert bench.run() == SYSCALL and bench.regs[EAX] == 2


def test_t07_dropping_translations_leaves_faults_whole(bench):
    bench.load(b"\xa1" + imm(DATA) + EXIT)
    bench.pte(DATA, make=True)
    for _ in range(3):
        bench.cpu.flush_code()
        assert bench.run() == PAGE_FAULT
        assert (bench.cpu.fault_address, bench.cpu.error_code) == (DATA, 4)
    bench.map(DATA)
    assert bench.run() == SYSCALL


def test_t08_initial_fpu_state(bench):
    bench.load(b"\xd9\x3d" + imm(DATA) + b"\x0f\xae\x1d" + imm(DATA + 4) + EXIT)  # fnstcw; stmxcsr
    frame = bench.with_data()
    assert bench.run() == SYSCALL
    assert struct.unpack_from("<H2xI", bench.ram.buf, frame) == (0x37F, 0x1F80)
    assert bench.cpu.new_context().fpu_state()[:6] == struct.pack("<HHBB", 0x37F, 0, 0, 0)


def cpuid(bench, leaf):
    bench.load(b"\x0f\xa2" + EXIT)
    bench.regs[EAX] = leaf
    assert bench.run() == SYSCALL
    return bench.regs[ECX], bench.regs[EDX]


def test_t09_the_model(bench):
    ecx, edx = cpuid(bench, 1)
    assert not ecx & (1 << 30 | 1 << 26), "RDRAND or XSAVE"
    assert edx & 1 << 6 and edx & 1 << 26, "PAE and SSE2"
    assert cpuid(bench, 0x80000001)[1] & 1 << 20, "NX"


def test_t09_rdtsc_never_shows_the_host_clock(bench):
    bench.load(b"\x90\x0f\x31" + EXIT)
    bench.regs[EAX] = bench.regs[EDX] = 77
    assert bench.run() == PROTECTION
    assert (bench.regs[EIP], bench.regs[EAX], bench.regs[EDX], bench.cpu.error_code) == (CODE + 1, 77, 77, 0)


def test_t09_a_model_without_nx_is_refused_for_pae_only(pae, monkeypatch):
    from tests.cpu.conftest import Bench

    monkeypatch.setattr(unicorn_api, "MODEL", UC_CPU_X86_PENTIUM3)
    with pytest.raises(CpuError, match="no NX"):
        Bench("pae")
    other = Bench("2level")
    other.load(EXIT)
    assert other.run() == SYSCALL


def test_t09_nx_is_enforced(pae):
    pae.with_data()
    pae.regs[EIP] = DATA
    assert pae.run() == PAGE_FAULT
    assert (pae.cpu.fault_address, pae.cpu.error_code) == (DATA, 0x15)


def test_t10_undefined_instruction(bench):
    bench.load(b"\x40\x0f\x0b" + EXIT)  # inc eax; ud2
    for count in (1, 2):
        bench.regs[EIP] = CODE
        assert bench.run() == ILLEGAL
        assert (bench.regs[EIP], bench.regs[EAX], bench.cpu.vector) == (CODE + 1, count, 6)
    bench.regs[EIP] = CODE + 3
    assert bench.run() == SYSCALL


def test_t10_undefined_after_page_fault_and_back(bench):
    bench.load(b"\x0f\x0b\xa1" + imm(DATA))
    for _ in range(3):
        bench.regs[EIP] = CODE
        assert bench.run() == ILLEGAL
        bench.regs[EIP] = CODE + 2
        assert bench.run() == PAGE_FAULT


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6, 8, 13, 14, 16, 0x20, 0x7F, 0x81, 0xFF])
def test_t11_software_interrupts_are_not_exceptions(bench, number):
    bench.load(b"\x90\xcd" + bytes([number]))
    for _ in range(2):
        bench.regs[EIP] = CODE
        assert bench.run() == PROTECTION
        assert (bench.regs[EIP], bench.cpu.error_code, bench.cpu.vector) == (CODE + 1, number * 8 + 2, 13)


def test_t11_int_14_does_not_repeat_an_old_page_fault(bench):
    bench.load(b"\xa1" + imm(DATA) + b"\xcd\x0e\xa1" + imm(DATA + 64))
    bench.pte(DATA, make=True)
    assert bench.run() == PAGE_FAULT
    bench.regs[EIP] = CODE + 5
    assert bench.run() == PROTECTION and bench.cpu.error_code == 0x72
    bench.regs[EIP] = CODE + 7
    assert bench.run() == PAGE_FAULT and bench.cpu.fault_address == DATA + 64


def test_t12_the_first_block_ever_is_counted(bench):
    bench.load(b"\xeb\x00\xeb\xfe")
    assert bench.run(budget=1) == BUDGET
    assert (bench.cpu.blocks, bench.regs[EIP]) == (1, CODE + 2)


def test_t13_ctrl_c_between_slices(pae):
    pae.load(b"\xeb\xfe")

    def interrupt(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            while pae.run(budget=10_000) == BUDGET:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    pae.regs[EIP] = CODE
    assert pae.run(budget=5) == BUDGET and pae.cpu.blocks == 5


@pytest.mark.parametrize(
    "code, kind",
    [
        pytest.param(b"\x0f\x34", ILLEGAL, id="sysenter"),
        pytest.param(b"\x0f\x05", ILLEGAL, id="syscall"),
        pytest.param(b"\xec", PROTECTION, id="in al, dx"),
        pytest.param(b"\xe5\x10", PROTECTION, id="in eax, 0x10"),
        pytest.param(b"\xee", PROTECTION, id="out dx, al"),
        pytest.param(b"\x66\xe7\x10", PROTECTION, id="out 0x10, ax"),
        pytest.param(b"\x6e", PROTECTION, id="outsb"),
        pytest.param(b"\xf3\x6f", PROTECTION, id="rep outsd"),
        pytest.param(b"\xf4", PROTECTION, id="hlt"),
        pytest.param(b"\xfa", PROTECTION, id="cli"),
        pytest.param(b"\xfb", PROTECTION, id="sti"),
        pytest.param(b"\x0f\x22\xd8", PROTECTION, id="mov cr3, eax"),
        pytest.param(b"\x0f\x20\xd8", PROTECTION, id="mov eax, cr3"),
        pytest.param(b"\x0f\x01\x15" + imm(DATA), PROTECTION, id="lgdt"),
        pytest.param(b"\x0f\x32", PROTECTION, id="rdmsr"),
        pytest.param(b"\x0f\x30", PROTECTION, id="wrmsr"),
        pytest.param(b"\x0f\x33", PROTECTION, id="rdpmc"),
        pytest.param(b"\x0f\x09", PROTECTION, id="wbinvd"),
        pytest.param(b"\x0f\x01\x38", PROTECTION, id="invlpg"),
        pytest.param(b"\x0f\xc7\xf0", ILLEGAL, id="rdrand"),
        pytest.param(b"\xf1", ILLEGAL, id="icebp"),
    ],
)
def test_t14_privileged_instructions_fault(bench, code, kind):
    """... at the instruction, with the flags of before, and nothing after it in the block has happened."""
    after = b"\x40\xc7\x05" + imm(DATA) + imm(0xBAD)  # inc eax; mov [DATA], 0xbad
    bench.load(b"\x39\xdb\x43" + code + after + EXIT)  # cmp ebx, ebx; inc ebx
    frame = bench.with_data()
    for _ in range(2):
        bench.regs[EIP], bench.regs[EAX], bench.regs[EBX], bench.regs[ECX], bench.regs[ESI] = (
            CODE,
            5,
            0xFFFFFFFF,
            3,
            DATA,
        )
        assert bench.run() == kind
        assert (bench.regs[EIP], bench.regs[EAX], bench.regs[EBX], bench.regs[ECX]) == (CODE + 3, 5, 0, 3)
        assert bench.regs[ESI] == DATA and bench.regs[EFLAGS] & 0x8C5 == 0x44
        assert bench.ram.buf[frame : frame + 4] == bytes(4)
        if kind == PROTECTION:
            assert bench.cpu.error_code == 0
    bench.regs[EIP] = CODE + 3 + len(code)
    assert bench.run() == SYSCALL and bench.ram.buf[frame : frame + 2] == b"\xad\x0b"


@pytest.mark.parametrize(
    "code, kind, offset",
    [
        (b"\x31\xc9\xf7\xf1", DIVIDE, 2),  # xor ecx, ecx; div ecx
        (b"\x31\xc9\x8e\xe1\xb9\x60\0\0\0\x8e\xe1", PROTECTION, 9),  # mov fs, 0; mov fs, the kernel's
        (b"\x90\xcc", BREAKPOINT, 2),
        (b"\x90\xcd\x03", BREAKPOINT, 3),
        (b"\xb0\x7f\xfe\xc0\xce", OVERFLOW, 5),  # mov al, 127; inc al; into
        (b"\x90\xcd\x80", SYSCALL, 3),
    ],
)
def test_t15_where_eip_stands(bench, code, kind, offset):
    bench.load(code)
    for _ in range(2):
        bench.regs[EIP] = CODE
        assert bench.run() == kind
        assert bench.regs[EIP] == CODE + offset


def test_t15_into_without_overflow_goes_on(bench):
    bench.load(b"\x31\xc0\xce" + EXIT)
    assert bench.run() == SYSCALL


def test_t16_numpy_loses_duplicates():
    pfns, counts = np.array([3, 5, 3, 3]), np.zeros(8, np.int32)
    counts[pfns] += 1
    assert counts[3] == 1, "numpy counts duplicates now"
    counts[:] = 0
    np.add.at(counts, pfns, np.ones(len(pfns), counts.dtype))
    assert counts[3] == 3 and counts[5] == 1
    assert np.bincount(pfns, minlength=8).tolist() == counts.tolist()


def write_then_execute(bench, flush):
    """A just-in-time compiler under W^X: two functions on one page, run, made writable, changed by the guest, made
    executable, run."""
    frame = bench.load(b"\xb8" + imm(1) + EXIT + b"\xb8" + imm(1) + EXIT)
    bench.load(b"\xc6\x05" + imm(CODE + 1) + b"\x02\xc6\x05" + imm(CODE + 8) + b"\x02" + EXIT, va=0x09000000)
    bench.regs[EIP] = CODE
    assert bench.run() == SYSCALL and bench.run() == SYSCALL
    bench.map(CODE, frame, P | U | W | NX)
    bench.cpu.flush_tlb()
    bench.regs[EIP] = 0x09000000
    assert bench.run() == SYSCALL
    bench.map(CODE, frame, P | U)
    bench.cpu.flush_tlb()
    if flush:
        bench.cpu.flush_code()
    bench.regs[EIP] = CODE
    results = []
    for _ in range(2):
        assert bench.run() == SYSCALL
        results.append(bench.regs[EAX])
    return results


def test_t17_code_written_through_a_mapping_without_execute(bench):
    assert write_then_execute(bench, flush=True) == [2, 2]


def test_t17_only_the_first_such_store_is_noticed(pae):
    assert write_then_execute(pae, flush=False) == [2, 1], "all are noticed now: gaining PROT_EXEC needs no flush_code"


@pytest.mark.parametrize("pages", [1, 9, 700])
def test_t18_a_restarted_store_drops_what_the_tlb_held(bench, pages):
    """Copy on write needs no flush for the page that faulted: a store that was refused, and now is not, fills the TLB
    entry anew, for reads too.

    The loop of the kernel relies on it. 700 pages are more than the TLB holds, so that some entries come back from its
    overflow list.
    """
    # L: mov eax, [ebx]; add edx, eax; add ebx, 4096; dec ecx; jnz L; int 0x80
    reads = b"\x8b\x03\x01\xc2\x81\xc3" + imm(PAGE) + b"\x49\x75\xf3\xcd\x80"
    store = b"\x89\x03\xcd\x80"  # mov [ebx], eax; int 0x80
    bench.load(reads + store)
    heap = 0x40000000
    for i in range(pages):
        frame = bench.map(heap + i * PAGE, None, P | U | NX)
        bench.ram.buf[frame : frame + 4] = imm(1)

    def read_all():
        bench.regs[EIP], bench.regs[EBX], bench.regs[ECX], bench.regs[EDX] = CODE, heap, pages, 0
        assert bench.run() == SYSCALL
        return bench.regs[EDX]

    assert read_all() == pages
    frames = []
    for i in range(pages):
        bench.regs[EIP], bench.regs[EBX], bench.regs[EAX] = CODE + len(reads), heap + i * PAGE, 2
        assert bench.run() == PAGE_FAULT and bench.cpu.error_code == 7
        frames.append(bench.map(heap + i * PAGE, None, P | U | W | NX))
        assert bench.run() == SYSCALL
        bench.ram.buf[frames[-1] + 1 : frames[-1] + 2] = b"\x01"  # the kernel writes there later: 0x102
    assert read_all() == 0x102 * pages


def test_unmapped_physical_memory_is_an_error_not_a_trap(bench):
    bench.load(b"\xa1" + imm(DATA))
    bench.map(DATA, 0x7FFF0000, P | U | W)
    with pytest.raises(CpuError, match="outside RAM.*eip=08048000"):
        bench.run()
    bench.map(DATA)
    bench.cpu.flush_tlb()
    assert bench.run(budget=1) != PROTECTION


def test_entering_virtual_8086_mode_is_an_error(bench):
    bench.load(b"\xcf")
    bench.with_data()
    bench.map(0, None, P | U)
    bench.regs[ESP] = STACK
    stack = bench.entry(bench.pte(STACK)) & 0xFFFFF000
    struct.pack_into("<9I", bench.ram.buf, stack, 0, 0x100, 0x20202, 0, 0x200, 0, 0, 0, 0)
    with pytest.raises(CpuGap, match="iret with VM set.*eflags=00020202"):
        bench.run(budget=1)
    bench.ctx.reset()
    bench.load(EXIT, va=0x09000000)
    assert bench.run() == SYSCALL
