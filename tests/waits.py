"""Operations for which the host waits for a device, counted where there is none."""

from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Counts the operations for which the host waits for a device."""

    NAMES = ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::bincount")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in self.NAMES:
            self.found.append(func.name())
        return func(*args, **(kwargs or {}))
