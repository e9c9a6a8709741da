/* mmap, munmap, mprotect, mremap, madvise, mincore, msync, mlock and their relatives: which arguments are refused, in what order, and what is left after. */
#include "abi.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)
#define FIX (ANON | MAP_FIXED)
#define NEW(page, pages) syscall(SYS_mmap2, AT(page), (pages) * PAGE, RW, FIX, -1, 0)

static void mmaps(int fd, int ro, int wo)
{
    M(mmap2, AT(0), PAGE, RW, FIX, -1, 0);
    M(mmap2, AT(1), 1, RW, FIX, -1, 0);
    M(mmap2, AT(2), 0, RW, FIX, -1, 0);
    M(mmap2, 0x20000001, PAGE, RW, FIX, -1, 0);
    OK(mmap2, 0x20000001, PAGE, RW, ANON, -1, 0);
    M(mmap2, AT(0), 0xfffff001, RW, ANON, -1, 0);
    M(mmap2, AT(0), 0xffffffff, RW, ANON, -1, 0);
    M(mmap2, AT(0), 0xc0000000, RW, ANON, -1, 0);
    M(mmap2, AT(0), 0xb0000000, RW, FIX, -1, 0);
    M(mmap2, 0xbffff000, 0x2000, RW, FIX, -1, 0);
    M(mmap2, 0xc0000000, PAGE, RW, FIX, -1, 0);
    M(mmap2, 0xfffff000, PAGE, RW, FIX, -1, 0);
    M(mmap2, AT(0), PAGE, RW, MAP_ANONYMOUS, -1, 0);
    M(mmap2, AT(0), PAGE, RW, MAP_ANONYMOUS | MAP_FIXED | 3, -1, 0);
    M(mmap2, AT(0), PAGE, RW, MAP_ANONYMOUS | MAP_FIXED | 4, -1, 0);
    M(mmap2, AT(0), PAGE, RW, MAP_FIXED | MAP_PRIVATE, -1, 0);
    M(mmap2, AT(0), PAGE, RW, MAP_FIXED | MAP_PRIVATE, 99, 0);
    M(mmap2, AT(0), 0, RW, MAP_FIXED | MAP_PRIVATE, 99, 0);
    M(mmap2, AT(4), PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, fd, 0);
    M(mmap2, AT(5), PAGE, RW, MAP_FIXED | MAP_SHARED, fd, 0);
    M(mmap2, AT(6), PAGE, RW, MAP_FIXED | MAP_SHARED, ro, 0);
    M(mmap2, AT(6), PAGE, RW, MAP_FIXED | MAP_PRIVATE, ro, 0);
    M(mmap2, AT(7), PAGE, PROT_READ, MAP_FIXED | MAP_SHARED, ro, 0);
    M(mmap2, AT(8), PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, wo, 0);
    M(mmap2, AT(8), PAGE, PROT_WRITE, MAP_FIXED | MAP_SHARED, wo, 0);
    M(mmap2, AT(8), PAGE, PROT_NONE, MAP_FIXED | MAP_SHARED, wo, 0);
    M(mmap2, AT(9), 2 * PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, fd, 0xfffff);
    M(mmap2, AT(9), PAGE, RW, FIX, -1, 0xffffffff);
    M(mmap2, AT(9), PAGE, RW, FIX | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_DENYWRITE | MAP_EXECUTABLE, -1, 0);
    M(mmap2, AT(9), PAGE, 0x10, FIX, -1, 0);
    M(mmap2, AT(9), PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0);
    M(mmap2, AT(10), PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0);
    M(mmap2, AT(8), 4 * PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0);
    int pipes[2];
    pipe(pipes);
    M(mmap2, AT(0), PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, pipes[0], 0);
    M(mmap2, AT(0), PAGE, PROT_READ, MAP_FIXED | MAP_SHARED, pipes[0], 0);
    int dir = open("/", O_RDONLY | O_DIRECTORY), null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), path = open("/", O_PATH);
    M(mmap2, AT(0), PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, dir, 0);
    M(mmap2, AT(0), PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, path, 0);
    M(mmap2, AT(0), PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, null, 0);
    M(mmap2, AT(12), PAGE, RW, MAP_FIXED | MAP_PRIVATE, zero, 0);
    M(mmap2, AT(13), PAGE, RW, MAP_FIXED | MAP_SHARED, zero, 0);
    SAY("zero %d %d", touch(AT(12), 'w'), touch(AT(13), 'w'));
    struct { void *at; unsigned long length, prot, flags, fd, offset; } old = { AT(14), PAGE, RW, FIX, (unsigned long)-1, 0 };
    M(mmap, &old);
    old.offset = 1;
    M(mmap, &old);
    old.flags = MAP_FIXED | MAP_PRIVATE, old.fd = fd;
    M(mmap, &old);
    old.offset = PAGE;
    M(mmap, &old);
    M(mmap, BAD);
    close(pipes[0]), close(pipes[1]), close(dir), close(null), close(zero), close(path);
    P(munmap, AT(0), 64 * PAGE);
}

static void unmaps(void)
{
    NEW(0, 8);
    P(munmap, AT(0), 0);
    P(munmap, 0x20000001, PAGE);
    P(munmap, AT(0), 0xffffffff);
    P(munmap, AT(0), 0xc0000000);
    P(munmap, 0xbffff000, 0x2000);
    P(munmap, 0xc0000000, PAGE);
    P(munmap, AT(100), PAGE);
    P(munmap, AT(3), 1);
    SAY("hole %d %d %d", touch(AT(2), 'r'), touch(AT(3), 'r'), touch(AT(4), 'r'));
    P(munmap, AT(2), 4 * PAGE);
    SAY("wider %d %d %d", touch(AT(1), 'r'), touch(AT(5), 'r'), touch(AT(6), 'r'));
    P(munmap, AT(0), 8 * PAGE);
}

static void protects(int ro)
{
    NEW(0, 4);
    P(mprotect, 0x20000001, PAGE, PROT_READ);
    P(mprotect, AT(0), 0, PROT_READ);
    P(mprotect, AT(100), 0, PROT_READ);
    P(mprotect, AT(0), PAGE, 0x20);
    P(mprotect, 0x20000001, 0, 0x20);
    P(mprotect, AT(100), PAGE, PROT_READ);
    P(mprotect, AT(0), 0xfffff000, PROT_READ);
    P(mprotect, AT(0), 0xffffffff, PROT_READ);
    P(mprotect, AT(2), 4 * PAGE, PROT_READ);
    SAY("first part done %d %d %d", touch(AT(1), 'w'), touch(AT(2), 'w'), touch(AT(3), 'w'));
    P(mprotect, AT(1), 1, PROT_NONE);
    SAY("none %d %d %d", touch(AT(1), 'r'), touch(AT(1), 'w'), touch(AT(1), 'x'));
    P(mprotect, AT(1), PAGE, PROT_WRITE);
    SAY("write only %d %d", touch(AT(1), 'r'), touch(AT(1), 'w'));
    M(mmap2, AT(6), PAGE, PROT_READ, MAP_FIXED | MAP_SHARED, ro, 0);
    P(mprotect, AT(6), PAGE, RW);
    P(mprotect, AT(6), PAGE, PROT_NONE);
    M(mmap2, AT(7), PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE, ro, 0);
    P(mprotect, AT(7), PAGE, RW);
    P(mprotect, AT(6), 2 * PAGE, RW);
    P(mprotect, AT(0), 4 * PAGE, PROT_READ | 0x01000000);
    P(mprotect, AT(0), 4 * PAGE, PROT_READ | 0x02000000);
    P(mprotect, AT(0), 4 * PAGE, PROT_READ | 0x03000000);
    P(munmap, AT(0), 8 * PAGE);
}

static void remaps(int fd)
{
    NEW(0, 4);
    *(char *)AT(0) = 'a', *(char *)AT(3) = 'd';
    M(mremap, 0x20000001, PAGE, PAGE, 0, 0);
    M(mremap, AT(0), PAGE, 0, 0, 0);
    M(mremap, AT(0), PAGE, PAGE, 8, 0);
    M(mremap, AT(0), PAGE, PAGE, MREMAP_FIXED, AT(8));
    M(mremap, AT(100), PAGE, PAGE, 0, 0);
    M(mremap, AT(100), PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0);
    M(mremap, AT(100), 2 * PAGE, PAGE, 0, 0);
    M(mremap, AT(0), 8 * PAGE, 16 * PAGE, 0, 0);
    M(mremap, AT(0), 8 * PAGE, 2 * PAGE, 0, 0);
    SAY("shrunk %d %d", touch(AT(1), 'r'), touch(AT(2), 'r'));
    M(mremap, AT(0), 2 * PAGE, 3 * PAGE, 0, 0);
    NEW(3, 1);
    M(mprotect, AT(3), PAGE, PROT_READ);
    M(mremap, AT(0), 3 * PAGE, 4 * PAGE, 0, 0);
    M(mremap, AT(1), PAGE, 2 * PAGE, 0, 0);
    M(mremap, AT(0), 3 * PAGE, 0xfffff000, MREMAP_MAYMOVE, 0);
    M(mremap, AT(0), 3 * PAGE, 0xb0000000, MREMAP_MAYMOVE, 0);
    M(mremap, AT(0), 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x20010001);
    M(mremap, AT(0), 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(1));
    M(mremap, AT(0), 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(0));
    M(mremap, AT(0), 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0xbffff000);
    M(mremap, AT(0), 3 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(16));
    SAY("moved %c %d %d", *(char *)AT(16), touch(AT(0), 'r'), touch(AT(18), 'r'));
    M(mremap, AT(16), 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(2));
    SAY("over another %c %d", *(char *)AT(2), touch(AT(3), 'w'));
    M(mremap, AT(2), 0, PAGE, MREMAP_MAYMOVE, 0);
    M(mremap, AT(2), 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(32));
    M(mmap2, AT(40), 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    *(char *)AT(40) = 'S';
    M(mremap, AT(40), 0, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(44));
    SAY("second view %c", *(char *)AT(44));
    *(char *)AT(44) = 'T';
    SAY("through the other %c", *(char *)AT(40));
    M(mremap, AT(40), 0, PAGE, 0, 0);
    M(mmap2, AT(48), PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
    M(mremap, AT(48), PAGE, 4 * PAGE, 0, 0);
    SAY("beyond the end %d %d", touch(AT(49), 'r'), touch(AT(51), 'r'));
    NEW(60, 2);
    mprotect(AT(61), PAGE, PROT_READ);
    M(mremap, AT(60), 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0);
    M(mremap, AT(60), 2 * PAGE, 2 * PAGE, 0, 0);
    P(munmap, AT(0), 80 * PAGE);
}

static void advices(int fd)
{
    NEW(0, 4);
    memset(AT(0), 'x', 4 * PAGE);
    P(madvise, 0x20000001, PAGE, MADV_NORMAL);
    P(madvise, AT(0), PAGE, 999);
    P(madvise, 0x20000001, PAGE, 999);
    P(madvise, AT(0), 0, MADV_DONTNEED);
    P(madvise, AT(100), 0, MADV_DONTNEED);
    P(madvise, AT(100), PAGE, MADV_DONTNEED);
    P(madvise, AT(0), 0xffffffff, MADV_NORMAL);
    P(madvise, AT(3), 3 * PAGE, MADV_DONTNEED);
    SAY("dropped %d %d", *(char *)AT(3), *(char *)AT(2));
    P(madvise, AT(1), PAGE, MADV_RANDOM);
    P(madvise, AT(1), PAGE, MADV_SEQUENTIAL);
    P(madvise, AT(0), 4 * PAGE, MADV_WILLNEED);
    M(mmap2, AT(8), 2 * PAGE, RW, MAP_FIXED | MAP_PRIVATE, fd, 0);
    P(madvise, AT(8), 2 * PAGE, MADV_WILLNEED);
    *(char *)AT(8) = 'Z';
    P(madvise, AT(8), PAGE, MADV_DONTNEED);
    SAY("the file's again %c", *(char *)AT(8));
    M(mmap2, AT(12), PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    *(char *)AT(12) = 'K';
    P(madvise, AT(12), PAGE, MADV_DONTNEED);
    SAY("shared stays %c", *(char *)AT(12));
    P(mlock, AT(0), PAGE);
    P(madvise, AT(0), PAGE, MADV_DONTNEED);
    P(munlock, AT(0), PAGE);
    P(madvise, AT(0), PAGE, MADV_DONTNEED);
    P(munmap, AT(0), 64 * PAGE);
}

static void others(int fd)
{
    unsigned char vec[16];
    NEW(0, 4);
    *(char *)AT(1) = 1;
    P(mincore, 0x20000001, PAGE, vec);
    P(mincore, AT(0), 4 * PAGE, BAD);
    P(mincore, AT(0), 5 * PAGE, vec);
    P(mincore, AT(100), 0, BAD);
    P(mincore, AT(100), PAGE, vec);
    P(mincore, AT(0), 0xffffffff, vec);
    memset(vec, 0xff, sizeof vec);
    P(mincore, AT(0), 3 * PAGE + 1, vec);
    SAY("resident %d %d %d %d %02x", vec[0], vec[1], vec[2], vec[3], vec[4]);
    M(mmap2, AT(8), PAGE, RW, MAP_FIXED | MAP_SHARED, fd, 0);
    P(msync, 0x20000001, PAGE, MS_SYNC);
    P(msync, AT(8), PAGE, 8);
    P(msync, AT(8), PAGE, MS_ASYNC | MS_SYNC);
    P(msync, AT(8), 0, MS_SYNC);
    P(msync, AT(8), 1, MS_SYNC);
    P(msync, AT(8), PAGE, 0);
    P(msync, AT(8), PAGE, MS_ASYNC | MS_INVALIDATE);
    P(msync, AT(8), 4 * PAGE, MS_SYNC);
    P(msync, AT(100), PAGE, MS_ASYNC);
    P(msync, AT(0), 0xffffffff, MS_SYNC);
    P(mlock, AT(0), 0);
    P(mlock, AT(100), 0);
    P(mlock, 0x20000001, 2 * PAGE);
    P(mlock, AT(100), PAGE);
    P(mlock, AT(2), 4 * PAGE);
    P(mlock, AT(0), 0xffffffff);
    P(munlock, AT(100), PAGE);
    P(munlock, AT(0), 8 * PAGE);
    P(msync, AT(8), PAGE, MS_INVALIDATE);
    P(mlock, AT(8), PAGE);
    P(msync, AT(8), PAGE, MS_INVALIDATE | MS_SYNC);
    P(mlockall, 0);
    P(mlockall, 8);
    P(mlockall, MCL_FUTURE);
    P(munlockall);
    mprotect(AT(0), PAGE, PROT_NONE);
    P(mlock, AT(0), PAGE);
    P(munlockall);
    P(remap_file_pages, AT(0), PAGE, PROT_READ, 0, 0);
    P(remap_file_pages, AT(0), PAGE, 0, 0, 0);
    P(remap_file_pages, AT(8), 0, 0, 0, 0);
    P(remap_file_pages, AT(8), 2 * PAGE, 0, 0, 0);
    P(remap_file_pages, AT(100), PAGE, 0, 0, 0);
    P(munmap, AT(0), 64 * PAGE);
}

/* What a page is after its file changes. */
static void files(int fd)
{
    ftruncate(fd, 3 * PAGE + 100);
    M(mmap2, AT(0), 6 * PAGE, RW, MAP_FIXED | MAP_SHARED, fd, 0);
    M(mmap2, AT(8), 6 * PAGE, RW, MAP_FIXED | MAP_PRIVATE, fd, 0);
    *(char *)AT(8) = 'p';
    SAY("ends %d %d %d %d", touch(AT(3), 'w'), touch(AT(4), 'r'), touch(AT(5), 'w'), touch(AT(12), 'w'));
    SAY("rest of the last page is zero %d", ((char *)AT(3))[200]);
    ((char *)AT(3))[200] = 'q';
    P(ftruncate, fd, 2 * PAGE);
    SAY("cut off %d %d %d", touch(AT(1), 'r'), touch(AT(2), 'r'), touch(AT(10), 'r'));
    P(ftruncate, fd, 6 * PAGE);
    SAY("zero again %d %d", touch(AT(3), 'r'), ((char *)AT(3))[200]);
    P(ftruncate, fd, 0);
    SAY("private copy goes too %d %d", touch(AT(8), 'r'), touch(AT(9), 'r'));
    P(pwrite64, fd, "new", 3, 0, 0);
    SAY("seen %c %c", *(char *)AT(0), *(char *)AT(8));
    *(char *)AT(0) = 'N';
    char byte = 0;
    P(pread64, fd, &byte, 1, 0, 0);
    SAY("read back %c, private follows until written %c", byte, *(char *)AT(8));
    P(write, fd, AT(20), 10);
    P(munmap, AT(0), 64 * PAGE);
}

int main(void)
{
    char name[] = "/tmp/abi-mm-XXXXXX";
    begin();
    int fd = mkstemp(name), ro = open(name, O_RDONLY), wo = open(name, O_WRONLY);
    unlink(name);
    write(fd, "file content", 12);
    mmaps(fd, ro, wo);
    unmaps();
    protects(ro);
    remaps(fd);
    advices(fd);
    others(fd);
    files(fd);
    return 7;
}
