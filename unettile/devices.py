"""Where and how arithmetic is done: device, precision and threads. Nothing is chosen that was not asked for."""

from __future__ import annotations

import ctypes
import re

import torch

from unettile.errors import UsageError
from unettile.limits import count_threads

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")


ALL = "cuda:all"


def list_cuda() -> tuple[str, ...]:
    """Return the names of the CUDA devices that this process sees; none is touched."""
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def expand_device(name: str) -> tuple[str, ...]:
    """Return the devices that a name stands for: every CUDA device for `cuda:all`, else the one that it names.

    Where there is none, `cuda:all` stands for `cuda`, which `choose_device` refuses.
    """
    return (list_cuda() or ("cuda",)) if name == ALL else (name,)


def choose_device(name: str, kinds: tuple[str, ...] = ("cuda", "cpu")) -> torch.device:
    """Return the device called `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.

    Args:
        kinds: of device that the model is computed on.

    Raises:
        UsageError: no such device on this machine, or none that the model is computed on; or all of them, which one
            process does not use.
    """
    if name == ALL:
        raise UsageError(
            f"device {ALL} is for the command `unettile segment`: need one here, cuda or cuda:N; a training on several"
            " GPUs is started by torchrun"
        )
    if name == "auto":
        name = "cuda" if "cuda" in kinds and torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and "cuda" not in kinds:
        raise UsageError(
            f"device {name} needs the build of ONNX Runtime for CUDA: pip install onnxruntime-gpu in the place of"
            " onnxruntime, or use --device cpu"
        )
    if name == "cpu":
        return torch.device("cpu")
    found = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not found:
        raise UsageError(f"device {name!r} is not known: need auto, cpu, cuda or cuda:N")
    index, count = int(found[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise UsageError(f"device {name} is not here: this machine shows {count} CUDA devices; use --device cpu")
    return torch.device("cuda", index)


def choose_precision(name: str, device: torch.device) -> str:
    """Return `fp32`, `tf32`, `bf16` or `fp16`.

    `auto` is bf16 where the processor computes in it, fp16 on a GPU with tensor cores that does not, else fp32. `fp32`
    is float32 throughout; `tf32` multiplies numbers rounded to 10 bits, on a GPU that does.

    Raises:
        UsageError: an unknown name, or what the device does not have.
    """
    if name not in PRECISIONS:
        raise UsageError(f"precision {name!r} is not known: need one of {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("precision fp16 needs a CUDA device: use bf16 or fp32 on a CPU")
    if name == "tf32" and (device.type == "cpu" or not _has_bf16(device)):
        raise UsageError("precision tf32 needs a CUDA device of capability 8.0 or later: use fp32, or bf16 or fp16")
    if name != "auto":
        return name
    if _has_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 7 else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8  # Ampere and later; older ones emulate it
    capability = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _cpu_flag_bf16()


def _cpu_flag_bf16() -> bool:
    """Whether the processor has bfloat16 dot products, which oneDNN otherwise emulates at a loss."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:  # noqa: PTH123 (a device file)
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def set_threads(threads: int | None = None) -> int:
    """Let torch use the job's processors, as `count_threads` counts them; return their number."""
    count = count_threads(threads)
    torch.set_num_threads(count)
    return count


def keep_freed_memory() -> None:
    """Ask the C library to keep freed memory for the next tensors instead of giving it back to the kernel.

    glibc maps each large tensor afresh, and the kernel zeroes its pages one fault at a time: on two cores a training
    step of a narrow network took six times as long, a window of `segment` in bfloat16 one and a half times. All threads
    share one heap, so that what the reading thread frees is there for the network: a quarter less at the peak. Nothing
    happens with other C libraries.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8  # malloc.h
    libc.mallopt(m_arena_max, 1)
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)
