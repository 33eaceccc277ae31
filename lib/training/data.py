"""The pictures that every chapter trains on, as tensors on the device of one's choice.

MNIST (LeCun, Cortes and Burges; Y. LeCun et al., "Gradient-based learning applied to document recognition",
Proc. IEEE 86(11), 1998) lies in the folder `mnist` beside this file: the four published files, each
compressed with xz. What is read is compared with the published MD5 sums, so a damaged file cannot pass for
data. `python -m lib.training mnist FOLDER` makes the compressed files from the published ones.
"""

import hashlib
import lzma
import math
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.checks import described
from lib.training.devices import check_device

FOLDER = Path(__file__).parent / "mnist"
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
SPLITS = {"train": "train", "test": "t10k"}

# The colour photographs inside scikit-image that need no download.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")

# Data sets that torchvision can download, by our name and by its own.
TORCHVISION = {"cifar10": "CIFAR10", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}


class DataError(ValueError):
    """A data file is missing or damaged. The message names the file and the way to mend it."""


class Labelled(NamedTuple):
    """Images, float32 (N, C, H, W) in [0, 1], and the class of each, int64 (N,)."""

    images: Tensor
    labels: Tensor


def load_mnist(split: str = "train", device: str | torch.device = "cpu") -> Labelled:
    """The digits of MNIST: images float32 (N, 1, 28, 28), 0 paper and 1 ink; labels int64 (N,), 0 to 9.

    `split` is "train" (60,000 images) or "test" (10,000). The tensors are the caller's own: a second call is
    quick, for the bytes stay in memory, but it returns new tensors.

    Raises ValueError for an unknown split or device and DataError for a missing or damaged file.
    """
    if split not in tuple(SPLITS):
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")
    device = check_device(device)
    pixels, labels = (_published(f"{SPLITS[split]}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    return Labelled(pixels.unsqueeze(1).to(device, torch.float32).div_(255), labels.to(device, torch.int64))


def load_photograph(name: str, size: int | tuple[int, int] | None = None, device: str | torch.device = "cpu") -> Tensor:
    """A colour photograph that ships with scikit-image, float32 (3, H, W) in [0, 1].

    `size` is the height and width wanted, or one number for a square: the largest part of that shape is cut
    from the middle and scaled. Without it the photograph keeps its own size.

    Raises ValueError for a name that is not in `PHOTOGRAPHS` and for a size below 1.
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"name must be one of {', '.join(PHOTOGRAPHS)}, got {name!r}")
    sides = size if size is None or isinstance(size, tuple | list) else (size, size)
    if sides is not None and not (len(sides) == 2 and all(type(side) is int and side >= 1 for side in sides)):
        raise ValueError(f"size must be a whole number of at least 1, or (H, W), or None, got {size!r}")
    device = check_device(device)
    from skimage import data  # only here: importing it takes longer than the rest of this file

    pixels = torch.from_numpy(getattr(data, name)().copy()).to(device)
    photograph = pixels.permute(2, 0, 1).to(torch.float32) / 255
    return photograph if sides is None else _cut(photograph, *sides)


def load(name: str, split: str = "train", device: str | torch.device = "cpu", folder: str | None = None) -> Labelled:
    """A data set by name: "mnist" from this package, or one of `TORCHVISION`, which torchvision downloads.

    `folder` is where torchvision keeps its files, by default beside the weights of torch.hub. Images come as
    float32 (N, C, H, W) in [0, 1]. The book needs none of these downloads.

    Raises ValueError for an unknown name or split, ModuleNotFoundError where torchvision is not installed,
    and DataError where the download fails.
    """
    if not (folder is None or isinstance(folder, str | os.PathLike)):
        raise ValueError(f"folder must be the path of a folder or None, got {described(folder)}")
    device = check_device(device)
    if name == "mnist":
        return load_mnist(split, device)
    if name not in tuple(TORCHVISION):
        raise ValueError(f"name must be one of mnist, {', '.join(TORCHVISION)}, got {name!r}")
    if split not in tuple(SPLITS):
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ModuleNotFoundError(
            f"load({name!r}) needs torchvision, which is not installed here; load_mnist() needs nothing"
        ) from error
    folder = folder or os.path.join(torch.hub.get_dir(), "datasets")
    try:
        dataset = getattr(datasets, TORCHVISION[name])(folder, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} could not be downloaded to {folder} ({error}); it needs the network") from error
    pixels = torch.as_tensor(dataset.data)
    pixels = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
    images = pixels.to(device, torch.float32) / 255
    return Labelled(images.contiguous(), torch.as_tensor(dataset.targets).to(device, torch.int64))


def parse_idx(content: bytes) -> Tensor:
    """The uint8 tensor in an IDX file: bytes 0, 0, 8, rank; sizes as big-endian int32; then the values.

    Raises ValueError for bytes that are no such file.
    """
    if not isinstance(content, bytes | bytearray) or content[:3] != b"\0\0\x08" or len(content) < 4:
        raise ValueError(f"content must be the bytes of an IDX file of bytes, got {content!r:.60}")
    start = 4 + 4 * content[3]
    shape = struct.unpack_from(f">{content[3]}i", content, 4) if len(content) >= start else (-1,)
    if min(shape, default=0) < 0 or len(content) - start != math.prod(shape):
        raise ValueError(f"content must hold as many values as its sizes say, got {len(content)} bytes in all")
    if len(content) == start:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)


def build(source: str | Path, folder: str | Path = FOLDER) -> list[Path]:
    """Compresses the four published files in `source` into `folder`, after checking each against its MD5 sum.

    Returns the files written. Raises DataError, before anything is written, when one is missing or differs.
    """
    for name, path in {"source": source, "folder": folder}.items():
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"{name} must be the path of a folder, got {described(path)}")
    contents = {}
    for name, md5 in MD5.items():
        path = Path(source) / name
        if not path.is_file():
            raise DataError(f"{path} is missing; the folder must hold {', '.join(MD5)}, not compressed")
        contents[name] = path.read_bytes()
        if (found := hashlib.md5(contents[name]).hexdigest()) != md5:
            raise DataError(f"{path} has MD5 {found}, the published file has {md5}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in contents.items():
        path = Path(folder) / f"{name}.xz"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_bytes(lzma.compress(content, preset=9))
        os.replace(unfinished, path)
        written.append(path)
    return written


@lru_cache(maxsize=len(MD5))
def _published(name: str) -> Tensor:
    """The content of one published file, kept for the next call: convert it, never change it."""
    path = FOLDER / f"{name}.xz"
    remedy = "Install the package again, or make the file with `python -m lib.training mnist FOLDER`"
    if not path.is_file():
        raise DataError(f"{path} is missing. {remedy}")
    try:
        content = lzma.decompress(path.read_bytes())
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}). {remedy}") from error
    if (found := hashlib.md5(content).hexdigest()) != MD5[name]:
        raise DataError(f"{path} is damaged: MD5 {found} of its content, published {MD5[name]}. {remedy}")
    return parse_idx(content)


def _cut(image: Tensor, height: int, width: int) -> Tensor:
    """The largest part of (C, H, W) with the shape of height × width, from the middle, scaled to it."""
    scale = min(image.shape[1] / height, image.shape[2] / width)
    rows, columns = round(height * scale), round(width * scale)
    top, left = (image.shape[1] - rows) // 2, (image.shape[2] - columns) // 2
    part = image[None, :, top : top + rows, left : left + columns]
    return F.interpolate(part, (height, width), mode="bilinear", antialias=True)[0].clamp(0, 1)
