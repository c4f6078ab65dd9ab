"""Memory of processes that compute on a CPU: in huge pages, and kept by the process.

A training step allocates and frees tensors of megabytes some thousand times. By default glibc takes such blocks from
the system and returns them, and the system zeroes them page by page: 10,000 page faults in a step of 8 patches of
64x64. With huge pages and memory that stays with the process there are almost none, and the step takes 6 % less time at
the same peak (benchmarks/README.md). Results have the same bits. Tensors on a GPU are not concerned.
"""

import os

GLIBC_TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # madvise(2) huge pages, from glibc 2.35 on
        f"glibc.malloc.mmap_threshold={32 * 2**20}",  # the maximum in glibc; larger blocks are always returned
        f"glibc.malloc.trim_threshold={4 * 2**30}",  # bytes that are kept free at the top of the heap
    )
)


def tune_child_processes() -> None:
    """Set `GLIBC_TUNABLES` for processes that are started from now on, unless the user has set it.

    glibc reads it when a program starts, so a process cannot set it for itself. Other C libraries ignore it.
    """
    os.environ.setdefault("GLIBC_TUNABLES", GLIBC_TUNABLES)
