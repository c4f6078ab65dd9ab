"""Whether an error says that a device ran out of memory: torch and each library under it say so in other words."""

import torch

SAID = (
    "out of memory",  # CUDA's own error, whichever class torch gives it
    "defaultcpuallocator",
    "allocate memory",
    "not enough memory",
    "alloc_failed",  # CUFFT_ALLOC_FAILED, and ..._STATUS_ALLOC_FAILED of cuDNN, cuBLAS and cuSOLVER
    "allocation_failed",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "bad_alloc",  # the C++ library's own
    # torch tries every algorithm of cuDNN and drops the errors of those for which memory is short.
    "unable to find an engine to execute this computation",
    "unable to find a valid cudnn algorithm",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device, or of this machine, does not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError | OSError):
        return False
    text = str(error).lower()
    # cuFFT calls a workspace that it could not get an internal error, and tells it apart only by what it adds.
    return any(words in text for words in SAID) or ("cufft_internal_error" in text and "alloc" in text)
