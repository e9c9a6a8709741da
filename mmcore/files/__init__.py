"""Pages that belong to files: the page cache, files of the host, tmpfs. Linux: mm/filemap.c, mm/shmem.c, 2.6.7."""
