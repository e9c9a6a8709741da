/* The heap: boundary tags and size classes over brk; large blocks have a mapping of their own, which mremap resizes.

       chunk                      next chunk
       | previous | size+flags | memory ... | previous | size+flags | ...

   `size` counts the whole chunk, a multiple of 16; `previous` is the size of the chunk below. Both neighbours of a chunk can so be
   found, and free chunks never touch. The last chunk of each stretch of brk is a header alone, in use, of size 16. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "internal.h"
#include "syscall.h"

#define PAGE 4096u
#define HEADER 8u
#define GRAIN 16u
#define MAPPED_FROM (128u << 10)
#define GROW_BY (64u << 10)
#define BINS 24
#define LARGEST 0x7fff0000u
enum { IN_USE = 1, MAPPED = 2, FLAGS = 15 };

struct chunk {
    uint32_t previous, size;
    struct chunk *next, *before; /* in its bin, while free */
};

static struct chunk *bins[BINS]; /* bin b: free chunks of 2^(b+4) up to below 2^(b+5) bytes */
static char *heap_end;
static int heap_lock;

static inline uint32_t size_of(const struct chunk *chunk)
{
    return chunk->size & ~FLAGS;
}

static inline struct chunk *above(struct chunk *chunk)
{
    return (struct chunk *)((char *)chunk + size_of(chunk));
}

static inline struct chunk *chunk_of(void *memory)
{
    return (struct chunk *)((char *)memory - HEADER);
}

static inline void *memory_of(struct chunk *chunk)
{
    return (char *)chunk + HEADER;
}

static inline int bin_of(uint32_t size)
{
    int bin = 27 - __builtin_clz(size);
    return bin < BINS ? bin : BINS - 1;
}

static void unlink_free(struct chunk *chunk)
{
    if (chunk->next)
        chunk->next->before = chunk->before;
    if (chunk->before)
        chunk->before->next = chunk->next;
    else
        bins[bin_of(size_of(chunk))] = chunk->next;
}

/* Makes a chunk of `size` at `chunk` free, merging it with free neighbours. */
static void insert_free(struct chunk *chunk, uint32_t size)
{
    struct chunk *next = (struct chunk *)((char *)chunk + size);
    if (!(next->size & IN_USE)) {
        unlink_free(next);
        size += size_of(next);
        next = (struct chunk *)((char *)chunk + size);
    }
    struct chunk *below = (struct chunk *)((char *)chunk - chunk->previous);
    if (chunk->previous && !(below->size & IN_USE)) {
        unlink_free(below);
        size += size_of(below);
        chunk = below;
    }
    chunk->size = size;
    next->previous = size;
    struct chunk **bin = &bins[bin_of(size)];
    chunk->next = *bin;
    chunk->before = NULL;
    if (*bin)
        (*bin)->before = chunk;
    *bin = chunk;
}

/* Takes `wanted` bytes from the bottom of a chunk that is in no bin; the rest goes back. */
static void *take(struct chunk *chunk, uint32_t wanted)
{
    uint32_t size = size_of(chunk), rest = size - wanted;
    if (rest >= 2 * GRAIN) {
        chunk->size = wanted | IN_USE;
        struct chunk *remainder = above(chunk);
        remainder->previous = wanted;
        remainder->size = rest | IN_USE;
        insert_free(remainder, rest);
    } else
        chunk->size = size | IN_USE;
    return memory_of(chunk);
}

/* Extends the heap by at least `wanted` bytes of free chunk. */
static int grow(uint32_t wanted)
{
    uint32_t size = (wanted + 2 * GRAIN + GROW_BY - 1) & -GROW_BY;
    char *at = sbrk((intptr_t)size);
    if (at == (char *)-1)
        return -1;
    struct chunk *chunk;
    if (at == heap_end) /* the old end marker becomes the new chunk's header */
        chunk = (struct chunk *)(at - GRAIN + HEADER);
    else {
        /* Memory must be aligned to 16, headers therefore to 16 less 8. */
        chunk = (struct chunk *)((((uintptr_t)at + GRAIN - 1) & -GRAIN) + HEADER);
        chunk->previous = 0;
    }
    heap_end = at + size;
    struct chunk *marker = (struct chunk *)(((uintptr_t)heap_end & -GRAIN) - GRAIN + HEADER);
    heap_end = (char *)marker + GRAIN - HEADER;
    uint32_t free_size = (uint32_t)((char *)marker - (char *)chunk);
    marker->previous = free_size;
    marker->size = GRAIN | IN_USE;
    chunk->size = free_size | IN_USE;
    insert_free(chunk, free_size);
    return 0;
}

static void *allocate(uint32_t wanted)
{
    for (;;) {
        for (int bin = bin_of(wanted); bin < BINS; bin++)
            for (struct chunk *chunk = bins[bin]; chunk; chunk = chunk->next)
                if (size_of(chunk) >= wanted) {
                    unlink_free(chunk);
                    return take(chunk, wanted);
                }
        if (grow(wanted))
            return NULL;
    }
}

static uint32_t chunk_size(size_t size)
{
    uint32_t wanted = (size + HEADER + GRAIN - 1) & -GRAIN;
    return wanted < 2 * GRAIN ? 2 * GRAIN : wanted;
}

/* A mapped block: its chunk header ends at 16 bytes into the mapping, so that the memory is aligned to 16. */
static void *allocate_mapped(size_t size)
{
    uint32_t length = (size + GRAIN + PAGE - 1) & -PAGE;
    char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    struct chunk *chunk = (struct chunk *)(at + GRAIN - HEADER);
    chunk->size = length | MAPPED | IN_USE;
    return memory_of(chunk);
}

void *malloc(size_t size)
{
    void *memory = NULL;
    if (size > LARGEST) {
        errno = ENOMEM;
        return NULL;
    }
    if (size >= MAPPED_FROM)
        memory = allocate_mapped(size);
    else {
        __lock(&heap_lock);
        memory = allocate(chunk_size(size));
        __unlock(&heap_lock);
    }
    if (!memory)
        errno = ENOMEM;
    return memory;
}

void free(void *memory)
{
    if (!memory)
        return;
    struct chunk *chunk = chunk_of(memory);
    if (chunk->size & MAPPED) {
        munmap((char *)memory - GRAIN, size_of(chunk));
        return;
    }
    __lock(&heap_lock);
    insert_free(chunk, size_of(chunk));
    __unlock(&heap_lock);
}

void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *memory = malloc(bytes);
    if (memory && !(chunk_of(memory)->size & MAPPED)) /* a fresh mapping is zero, and stays untouched */
        memset(memory, 0, bytes);
    return memory;
}

void *realloc(void *old, size_t size)
{
    if (!old)
        return malloc(size);
    if (size > LARGEST) {
        errno = ENOMEM;
        return NULL;
    }
    struct chunk *chunk = chunk_of(old);
    uint32_t had = size_of(chunk);
    if (chunk->size & MAPPED && size >= MAPPED_FROM) {
        uint32_t length = (size + GRAIN + PAGE - 1) & -PAGE;
        char *at = mremap((char *)old - GRAIN, had, length, MREMAP_MAYMOVE);
        if (at == MAP_FAILED)
            return NULL;
        chunk = (struct chunk *)(at + GRAIN - HEADER);
        chunk->size = length | MAPPED | IN_USE;
        return memory_of(chunk);
    }
    size_t usable = had - (chunk->size & MAPPED ? GRAIN : HEADER);
    if (!(chunk->size & MAPPED) && usable >= size)
        return old;
    void *memory = malloc(size);
    if (!memory)
        return NULL;
    memcpy(memory, old, usable < size ? usable : size);
    free(old);
    return memory;
}
