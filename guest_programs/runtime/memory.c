/* <sys/mman.h> and brk. */
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>
#include "syscall.h"

/* mmap2 takes the offset in units of 4096 bytes: an offset between them has no way to the kernel. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (offset & 0xfff) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    return (void *)checked(syscall6(SYS_mmap2, (long)address, (long)length, protection, flags, fd, (long)(offset >> 12)));
}

int munmap(void *address, size_t length)
{
    return checked(syscall2(SYS_munmap, (long)address, (long)length));
}

void *mremap(void *old, size_t old_length, size_t length, int flags, ...)
{
    void *place = NULL;
    if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
        va_list list;
        va_start(list, flags);
        place = va_arg(list, void *);
        va_end(list);
    }
    return (void *)checked(syscall5(SYS_mremap, (long)old, (long)old_length, (long)length, flags, (long)place));
}

int mprotect(void *address, size_t length, int protection)
{
    return checked(syscall3(SYS_mprotect, (long)address, (long)length, protection));
}

int madvise(void *address, size_t length, int advice)
{
    return checked(syscall3(SYS_madvise, (long)address, (long)length, advice));
}

int msync(void *address, size_t length, int flags)
{
    return checked(syscall3(SYS_msync, (long)address, (long)length, flags));
}

int mincore(void *address, size_t length, unsigned char *vector)
{
    return checked(syscall3(SYS_mincore, (long)address, (long)length, (long)vector));
}

int mlock(const void *address, size_t length)
{
    return checked(syscall2(SYS_mlock, (long)address, (long)length));
}

int munlock(const void *address, size_t length)
{
    return checked(syscall2(SYS_munlock, (long)address, (long)length));
}

int mlockall(int flags)
{
    return checked(syscall1(SYS_mlockall, flags));
}

int munlockall(void)
{
    return checked(syscall0(SYS_munlockall));
}

int remap_file_pages(void *address, size_t size, int protection, size_t page, int flags)
{
    return checked(syscall5(SYS_remap_file_pages, (long)address, (long)size, protection, (long)page, flags));
}

/* The kernel answers the break it has, moved or not; it is asked each time, as a program may move it without us. */
int brk(void *end)
{
    if ((void *)syscall1(SYS_brk, (long)end) == end)
        return 0;
    errno = ENOMEM;
    return -1;
}

void *sbrk(intptr_t increment)
{
    char *old = (char *)syscall1(SYS_brk, 0);
    if (increment && brk(old + increment))
        return (void *)-1;
    return old;
}
