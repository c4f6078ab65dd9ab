"""Runs the CUDA branches of training, evaluation and inspection on fake CUDA tensors: no GPU, no values.

    PYTHONPATH=. python tests/device/fake_cuda.py [PATTERN]     # the checks whose titles fit

Needs a CUDA build of torch and a C compiler.

The operations that it prints are those of torch's dispatcher which compute something; views are counted apart.
LayerNorm is torch's kernel, as on a GPU: what `accelerate` made fast computes as written while a mode watches it.

Finds: CPU and CUDA tensors mixed in one operation, waits for the device (item, tolist, copies to the host), copies from
the host, wrong types, and what a CUDA graph cannot record. Does not find: wrong values, races, what kernels refuse.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import traceback
import types
import warnings
from collections import Counter
from pathlib import Path

import torch
import torch._subclasses.fake_tensor as fake_tensor
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

assert torch.version.cuda, "a CUDA build of torch is needed: a CPU build ends in C++ at the first backward"

# The mode is made while torch still says that there is no device: it then replaces CUDA's device guard by one that does
# nothing. Afterwards torch is told that there is one.
FAKE = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)
with FAKE:
    torch.empty(1, device="cuda")
fake_tensor.init_gpu_context = lambda device: None

# --- A device that is not there ---------------------------------------------------------------------------------------
torch.cuda.is_available = lambda: True
torch.cuda.current_device = lambda: 0
torch.cuda.device_count = lambda: 1
torch.cuda.mem_get_info = lambda device=None: (80 * 2**30, 80 * 2**30)
torch.cuda.synchronize = lambda device=None: LOG.append(("sync", "torch.cuda.synchronize", where()))
torch.cuda.empty_cache = lambda: None
torch.cuda._lazy_init = lambda: None
torch.cuda.is_bf16_supported = lambda including_emulation=True: True
torch.Tensor.pin_memory = lambda self, device=None: self
torch.accelerator.current_accelerator = lambda check_available=False: torch.device("cuda")


class _Stream:
    capturing = False

    def __init__(self, *a, **k): ...
    def wait_stream(self, other): ...
    def wait_event(self, event): ...
    def record_event(self, event=None):
        return types.SimpleNamespace()

    def is_capturing(self):
        return _Stream.capturing


_now = _Stream()
torch.cuda.Stream = _Stream
torch.cuda.current_stream = lambda device=None: _now
torch.accelerator.current_stream = lambda device=None: _now
torch.cuda.stream = lambda stream: contextlib.nullcontext()


class _Graph:
    def replay(self): ...


torch.cuda.CUDAGraph = _Graph


@contextlib.contextmanager
def _graph(graph, pool=None, stream=None, capture_error_mode="global", **_):
    _Stream.capturing = True
    try:
        with recorder.part("capture"):
            yield
    finally:
        _Stream.capturing = False


torch.cuda.graph = _graph


def _apply(self, fn, recurse=True):
    """nn.Module._apply without swapping tensors, which fake ones do not allow."""
    for child in self.children():
        child._apply(fn)
    for name, p in self._parameters.items():
        if p is not None:
            if isinstance(p, FakeTensor):
                p.constant = None  # otherwise the mode would move the real constant
            with torch.no_grad():
                self._parameters[name] = nn.Parameter(fn(p), p.requires_grad)
    for name, b in self._buffers.items():
        if b is not None:
            if isinstance(b, FakeTensor):
                b.constant = None  # otherwise the mode would move the real constant
            self._buffers[name] = fn(b)
    return self


nn.Module._apply = _apply

# --- What is watched --------------------------------------------------------------------------------------------------
LOG: list[tuple[str, str, str]] = []


def where() -> str:
    for frame in reversed(traceback.extract_stack()):
        if "/safmn/" in frame.filename and "site-packages" not in frame.filename:
            return f"{frame.filename.split('/safmn/', 1)[1]}:{frame.lineno}"
    return "?"


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self._part, self.ops, self.found = [""], Counter(), []

    @contextlib.contextmanager
    def part(self, name):
        self._part.append(name)
        try:
            yield
        finally:
            self._part.pop()

    def counted(self, part, times=1):
        views = self.ops[part, "views"]
        found = {name: count for (where, name), count in self.ops.items() if where == part and name != "views"}
        dearest = ", ".join(f"{count / times:.0f} {name}" for name, count in Counter(found).most_common(4))
        return f"{sum(found.values()) / times:.0f} operations ({dearest}), {views / times:.0f} views"

    def note(self, kind, what):
        self.found.append((self._part[-1], kind, what, where()))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = str(func)
        is_view = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        if name != "prim.device.default":  # thousands a step: where a fake tensor is, is asked here as well
            self.ops[self._part[-1], "views" if is_view else name] += 1
        ins = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if name == "aten._local_scalar_dense.default" and any(t.device.type == "cuda" for t in ins):
            self.note("WAIT", "a number is read (item, float, tolist, bool)")
            return 1.0 if ins[0].dtype.is_floating_point else 1
        if name in ("aten.nonzero.default", "aten.masked_select.default"):
            self.note("WAIT", name)
        if "fused_adam" in name:  # has no fake form; what its kernel asks for is checked here instead
            devices, kinds = {t.device.type for t in ins}, {t.dtype for t in ins}
            rate = kwargs.get("lr", args[6] if len(args) > 6 else None)
            assert devices == {"cuda"}, f"fused Adam gets tensors on {devices}"
            assert not isinstance(rate, torch.Tensor) or rate.dtype == torch.float32
            for kept in zip(*(each for each in args[:4]), strict=True):  # weight, gradient, two moments
                # As torch compares them: the stride of a dimension with one entry says nothing.
                strides = {tuple(s for s, n in zip(each.stride(), each.shape, strict=True) if n > 1) for each in kept}
                assert len(strides) == 1, f"fused Adam gets tensors of different layouts: {strides}"
            self.ops["adam", f"{name}: rate is a {type(rate).__name__}, types {kinds}"] += 1
            return None
        out = func(*args, **kwargs)
        outs = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if name in ("aten._to_copy.default", "aten.copy_.default"):
            source = args[1] if name == "aten.copy_.default" else args[0]
            target = outs[0]
            pair = f"{source.device.type}->{target.device.type}"
            if pair in ("cpu->cuda", "cuda->cpu"):
                self.note(
                    "copy "
                    + pair
                    + (" non_blocking" if kwargs.get("non_blocking") or (len(args) > 2 and args[2]) else ""),
                    f"{tuple(source.shape)} {source.dtype}",
                )
        for t in outs:
            if t.dtype == torch.float64 and t.device.type == "cuda" and t.numel() > 1:
                self.ops["float64", name] += 1
        return out


recorder = Recorder()
FAILED = []
QUEUE: list = []
PATTERN = sys.argv[1] if len(sys.argv) > 1 else ""


def check(title):
    """Registers a check; each runs in a process of its own, since torch's C++ may end with the fake device."""

    def register(function):
        if re.search(PATTERN, title):
            QUEUE.append((title, function))
        return function

    return register


def run_all():
    for title, function in QUEUE:
        print(f"\n== {title}", flush=True)
        child = os.fork()
        if child == 0:
            os._exit(1 if one(function) else 0)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            print(f"   torch itself ended with signal {os.WTERMSIG(status)} (of the fake device, says nothing)")
        elif status:
            FAILED.append(title)


def one(function) -> bool:
    failed = False
    with torch.autograd.set_multithreading_enabled(False), FAKE, recorder:
        try:
            function()
        except Exception as error:
            failed = True
            print(f"   RAISED {type(error).__name__}: {str(error).splitlines()[0][:300]}")
            for frame in traceback.extract_tb(error.__traceback__):
                if "/safmn/" in frame.filename and "site-packages" not in frame.filename:
                    print(f"     at {frame.filename.split('/safmn/', 1)[1]}:{frame.lineno}: {frame.line}")
            last = traceback.extract_tb(error.__traceback__)[-2:]
            print(
                "     in torch:",
                "; ".join(f"{f.filename.rsplit('site-packages/', 1)[-1]}:{f.lineno} {f.line}" for f in last),
            )
        for (part, kind, what, at), count in Counter(recorder.found).items():
            print(f"   {count:4d} x {part or 'outside'}: {kind}: {what} at {at}")
        if not recorder.found and not failed:
            print("   no wait, no copy between host and device")
        sys.stdout.flush()
    return failed


def main():
    from safmn import networks
    from safmn.data.patches import PatchSampler
    from safmn.inspection import attribution, features
    from safmn.inspection.scenes import Square
    from safmn.networks import acceleration
    from safmn.planning.calibration import Noise
    from safmn.quality import batched, batches, evaluation
    from safmn.training import forms, validation
    from safmn.training.capture import CapturedStep
    from safmn.training.step import TrainStep

    cuda = torch.device("cuda")
    base = {
        "iterations": 1000,
        "batch": 4,
        "patch": 16,
        "learning_rate": 1e-3,
        "minimum_learning_rate": 1e-5,
        "betas": [0.9, 0.99],
        "fft_weight": 0.05,
        "ema": 0.999,
        "ema_buffers": "track",
        "threads": 1,
    }

    def batch(n=4, p=16, s=4):
        sides = (p, p * s)
        return [torch.empty(n, t, t, 3, dtype=torch.uint8, device="cuda").permute(0, 3, 1, 2) for t in sides]

    def built(name, scale=4):
        network = acceleration.fuse(networks.build(name, scale)).to("cuda")
        recorder.found.clear()  # its weights came from the host
        return network

    for precision in ("float32", "tf32", "bf16"):
        for name in ("safmn", "ln_bn", "ln_fbn", "ccm_se"):

            @check(f"TrainStep, {name}, {precision}: three steps")
            def _(name=name, precision=precision):
                step = TrainStep(built(name), base | {"precision": precision}, cuda)
                recorder.found.clear()
                recorder.ops.clear()
                for i in range(3):
                    with recorder.part("step"):
                        values = step(i, *batch())
                assert (values.device.type, values.shape, values.dtype) == ("cuda", (3,), torch.float32)
                print(f"   {recorder.counted('step', 3)} a step; rate on {step.optimiser.param_groups[0]['lr'].device}")

    for form in ("contiguous", "written", "channels_last"):

        @check(f"TrainStep, form {form}: three steps, then recorded")
        def _(form=form):
            settings = base | {"precision": "tf32", "form": form}
            step = CapturedStep(forms.step(built("safmn"), settings, cuda))
            recorder.found.clear()
            for i in range(6):
                step(i, *batch())

    @check("CapturedStep, safmn: three aside, recorded, replayed")
    def _():
        step = CapturedStep(TrainStep(built("safmn"), base | {"precision": "tf32"}, cuda))
        for i in range(6):
            step(i, *batch())
        inside = [f for f in recorder.found if f[0] == "capture"]
        print(f"   while recording: {recorder.counted('capture')}; forbidden ones: {inside or 'none'}")

    @check("resume on CUDA of a state that a CUDA run saved, then recorded")
    def _():
        step = TrainStep(built("safmn"), base | {"precision": "tf32"}, cuda)
        for i in range(2):
            step(i, *batch())
        saved = torch.utils._pytree.tree_map(
            lambda v: v.detach().to("cpu") if isinstance(v, torch.Tensor) else v, step.state()
        )
        other = TrainStep(built("safmn"), base | {"precision": "tf32"}, cuda)
        other.restore(saved)
        captured = CapturedStep(other)
        recorder.found.clear()
        for i in range(2, 8):
            captured(i, *batch())
        print(
            "   steps on",
            {s["step"].device for s in other.optimiser.state.values()},
            "moments on",
            {s["exp_avg"].device for s in other.optimiser.state.values()},
        )

    for graph in (False, True):

        @check(f"resume on CUDA of a state that a CPU run saved, {'recorded' if graph else 'kernel by kernel'}")
        def _(graph=graph):
            step = TrainStep(built("safmn"), base | {"precision": "tf32"}, cuda)
            for i in range(2):
                step(i, *batch())
            saved = torch.utils._pytree.tree_map(
                lambda v: v.detach().to("cpu") if isinstance(v, torch.Tensor) else v, step.state()
            )
            for group in saved["optimiser"]["param_groups"]:
                group["capturable"], group["lr"] = False, 1e-3
            for moments in saved["optimiser"]["state"].values():
                for key, value in moments.items():
                    if value.dim() == 4:  # the layout of weights on a CPU
                        moments[key] = value.contiguous(memory_format=torch.channels_last)
            other = TrainStep(built("safmn"), base | {"precision": "tf32"}, cuda)
            other.restore(saved)
            run = CapturedStep(other) if graph else other
            recorder.found.clear()
            for i in range(2, 8):
                run(i, *batch())

    @check("PatchSampler, resident on the device: three batches")
    def _():
        sampler = PatchSampler([Noise(4, 96, 96, 3)], 4, 16, 4, 0, cuda)
        print("   backend:", sampler.backend)
        recorder.found.clear()
        for i in range(3):
            lr, hr = sampler.batch(i)
        assert (lr.shape, hr.shape) == ((4, 3, 16, 16), (4, 3, 64, 64))
        assert lr.device.type == hr.device.type == "cuda"

    @check("validation.rgb_psnr")
    def _():
        noise = Noise(4, 64, 96, 2)
        value = validation.rgb_psnr(built("safmn").eval(), [(noise.lr(i), noise.hr(i)) for i in range(2)], 4)
        assert isinstance(value, float)

    for name, channels in (("safmn", "RGB"), ("fsrcnn", "Y"), ("imdn", "RGB")):

        @check(f"evaluation.evaluate, {name}")
        def _(name=name, channels=channels):
            # One thread, since modes are of one thread.
            batches.read_ahead = lambda count, load: ((i, load(i)) for i in range(count))
            noise = Noise(4, 64, 96, 3)
            # In RGB, the colours of a network for Y are enlarged on the host, in numpy, which takes no fake tensors.
            protocol = "present" if channels == "RGB" else "legacy"
            evaluation.evaluate(built(name).eval(), noise, 4, channels=channels, protocol=protocol)

    @check("quality.batched: PSNR and SSIM")
    def _():
        first, second = (torch.empty(2, 64, 64, dtype=torch.float64, device="cuda") for _ in range(2))
        for value in (batched.psnr_planes(first, second, 4), batched.ssim_planes(first, second, 4)):
            assert (value.dtype, value.device.type) == (torch.float64, "cuda")

    @check("inspection.attribution.detector and its gradient")
    def _():
        net = built("safmn").eval()
        pts = torch.empty(8, 3, 64, 64, requires_grad=True)
        value = attribution.detector(net(pts.to(cuda)), Square(120, 120, 16))
        (g,) = torch.autograd.grad(value.sum(), pts)
        assert (g.device.type, g.shape) == ("cpu", pts.shape)

    @check("inspection.features.capture")
    def _():
        features.capture(built("safmn").eval(), torch.empty(1, 3, 64, 64, dtype=torch.uint8, device="cuda"))

    from safmn.cost import memory

    for name in networks.all_networks():
        if name == "smsr":  # reads its masks on the host, so no graph can hold it; and torch has no fake form of that
            continue

        @check(f"forward of {name} in eval mode, float32 and half: what a CUDA graph could not record")
        def _(name=name):
            info = networks.info(name)
            scale = 4 if 4 in info.scales else info.scales[0]
            for half in (False, True):
                with torch.no_grad():
                    net = memory.use_form(built(name, scale).eval(), "fused")
                    x = torch.empty(1, info.channels, 48, 64, device="cuda")
                    if half:
                        net, x = net.half(), x.half()
                    recorder.found.clear()
                    out = net(x)
                    assert out.dtype == x.dtype, out.dtype

    run_all()
    print("\nraised:", FAILED or "none")
    sys.exit(len(FAILED) > 0)


SHIM = """
struct optional { signed char value, has; };
struct optional _ZN2at11accelerator14getAcceleratorEb(_Bool checked) { struct optional none = {0, 0}; return none; }
_Bool _ZN2at11accelerator13isAcceleratorEN3c1010DeviceTypeE(signed char type) { return 0; }
"""

if __name__ == "__main__":
    if "FAKE_CUDA_SHIM" not in os.environ:  # the backward pass would ask the driver for streams
        folder = tempfile.mkdtemp()
        Path(folder, "shim.c").write_text(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{folder}/shim.so", f"{folder}/shim.c"], check=True)
        os.environ |= {"LD_PRELOAD": f"{folder}/shim.so", "FAKE_CUDA_SHIM": folder}
        os.execv(sys.executable, [sys.executable, *sys.argv])
    warnings.filterwarnings("ignore", message="Accessing the data pointer")
    torch.set_num_threads(1)
    main()
