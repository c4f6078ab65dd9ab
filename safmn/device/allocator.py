"""How processes that compute on a CPU get their memory: in huge pages, and kept once they have it.

A training step allocates and frees tensors of megabytes some thousand times. By default glibc takes such blocks from
the system and gives them back, which then zeroes them page by page: some 10,000 page faults a step of 8 patches of
64x64. With huge pages and memory that stays with the process there are next to none, and the step takes 6 % less time
at the same peak (benchmarks/README.md). No bit of a result depends on it. Tensors on a GPU are not concerned.
"""

import os

GLIBC_TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # madvise(2) huge pages, from glibc 2.35 on
        f"glibc.malloc.mmap_threshold={32 * 2**20}",  # the most that glibc takes; larger blocks are always given back
        f"glibc.malloc.trim_threshold={4 * 2**30}",  # bytes free at the top of the heap, before it is given back
    )
)


def tune_child_processes() -> None:
    """Sets this for processes that are started from now on; somebody's own GLIBC_TUNABLES stay.

    glibc reads them when a program starts, so a process cannot set them for itself. Other C libraries ignore them.
    """
    os.environ.setdefault("GLIBC_TUNABLES", GLIBC_TUNABLES)
