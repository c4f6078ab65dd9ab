"""Errors of memory: torch and the libraries below it word them differently."""

import torch

MESSAGES = (
    "out of memory",  # CUDA's own error, with any class of torch
    "defaultcpuallocator",
    "allocate memory",
    "not enough memory",
    "alloc_failed",  # CUFFT_ALLOC_FAILED, and ..._STATUS_ALLOC_FAILED of cuDNN, cuBLAS and cuSOLVER
    "allocation_failed",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "bad_alloc",  # of the C++ library
    # torch tries every algorithm of cuDNN, and drops the errors of those that need too much memory.
    "unable to find an engine to execute this computation",
    "unable to find a valid cudnn algorithm",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that a device, or this machine, has too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError | OSError):
        return False
    text = str(error).lower()
    # cuFFT calls a workspace that it could not allocate an internal error.
    return any(words in text for words in MESSAGES) or ("cufft_internal_error" in text and "alloc" in text)
