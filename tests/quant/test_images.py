"""Images and weights from files: order, cropping, balance, and errors that say the way out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from quant.images import (
    balanced_order,
    from_arrays,
    from_folder,
    from_npz,
    load_images,
    load_weights,
    read_pixels,
)


def write_image(path, height, width, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    lines = ["file,class,split"]
    for i in range(6):
        write_image(tmp_path / "part" / f"{i}.png", 10, 12, 40 * i)
        lines.append(f"part/{i}.png,{i % 3},{'eval' if i < 4 else 'calib'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    seed=st.integers(0, 2**16),
)
def test_a_balanced_order_takes_every_class_once_before_any_twice(labels, seed):
    labels = np.array(labels)
    order = balanced_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    for count in range(1, len(labels) + 1):
        taken = np.bincount(labels[order[:count]], minlength=6)
        available = np.bincount(labels, minlength=6)
        short = taken < available
        if short.any():
            assert taken.max() <= taken[short].min() + 1


def test_samples_repeat_by_seed_and_differ_between_seeds():
    images = from_arrays(np.zeros((40, 2, 2, 3), np.uint8), np.arange(40) // 4)
    first, again, other = (images.sample(10, seed).index for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(images.sample(10, 0).labels) == list(range(10))
    with pytest.raises(ValueError, match=r"sample of 41 was asked for, there are 40"):
        images.sample(41, 0)


def test_pixels_are_normalised_channel_by_channel():
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[..., 1] = 255
    tensor = from_arrays(pixels, np.zeros(1, np.int64)).tensor()
    assert tensor.shape == (1, 3, 2, 2)
    assert tensor[0, 0, 0, 0].item() == pytest.approx((0 - 0.485) / 0.229)
    assert tensor[0, 1, 1, 1].item() == pytest.approx((1 - 0.456) / 0.224)


def test_batches_cover_all_images_in_order(folder):
    images = from_folder(folder, (8, 8))
    parts = list(images.batches(4))
    assert [len(labels) for _, labels in parts] == [4, 2]
    assert torch.equal(torch.cat([batch for batch, _ in parts]), images.tensor())
    assert torch.cat([labels for _, labels in parts]).tolist() == [0, 1, 2, 0, 1, 2]


def test_a_split_of_labels_csv_is_read(folder):
    assert len(from_folder(folder, (8, 8), split="eval")) == 4
    assert from_folder(folder, (8, 8), split="calib").labels.tolist() == [1, 2]
    with pytest.raises(ValueError, match="no split 'test'; there is calib, eval"):
        from_folder(folder, (8, 8), split="test")


@pytest.mark.parametrize(
    ("size", "resize", "kept"),
    [
        ((10, 12), 10, (10, 12)),  # between crop and resize: only cropped
        ((40, 60), 10, (10, 15)),  # larger: shorter side shrunk to 10
        ((4, 6), 10, (8, 12)),  # smaller: enlarged until the crop fits
    ],
)
def test_images_are_resized_only_when_the_crop_asks_for_it(tmp_path, size, resize, kept):
    height, width = size
    ramp = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    pixels = np.repeat(ramp[..., None], 3, 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = read_pixels(tmp_path / "a.png", (8, 8), resize)
    assert got.shape == (8, 8, 3)
    # The ramp's slope in the crop tells how far the image was scaled.
    slope = (float(got[4, 6, 0]) - float(got[4, 1, 0])) / 5
    assert slope == pytest.approx(255 / (kept[1] - 1), rel=0.15)


def test_class_folders_count_by_number_or_in_sorted_order(tmp_path):
    for name in ("7", "2"):
        write_image(tmp_path / "numbered" / name / "a.png", 8, 8)
    assert from_folder(tmp_path / "numbered", (8, 8)).labels.tolist() == [2, 7]
    for name in ("cat", "bird"):
        write_image(tmp_path / "named" / name / "a.png", 8, 8)
    assert from_folder(tmp_path / "named", (8, 8), classes=2).labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="2 class folders for 10 classes"):
        from_folder(tmp_path / "named", (8, 8), classes=10)


def test_folders_that_cannot_be_read_say_why(folder, tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        from_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="class 2 is out of range for a network of 2 classes"):
        from_folder(folder, (8, 8), classes=2)
    (folder / "part" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"labels.csv names .*3.png, which is not there"):
        from_folder(folder, (8, 8))
    (folder / "labels.csv").write_text("name,class\na.png,0\n")
    with pytest.raises(ValueError, match="no column 'file'"):
        from_folder(folder, (8, 8))


def test_npz_files_hold_images_and_labels(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(5))
    images = load_images(tmp_path / "a.npz", (4, 4), classes=5)
    assert images.labels.tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(images.pixels(3), pixels[3])
    with pytest.raises(ValueError, match=r"are \(4, 4\) pixels, the network reads.*--image-size"):
        load_images(tmp_path / "a.npz", (8, 8))
    np.savez(tmp_path / "b.npz", images=pixels)
    with pytest.raises(ValueError, match=r"b\.npz: expected a \.npz file with the arrays"):
        from_npz(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", images=pixels, labels=np.arange(4))
    with pytest.raises(ValueError, match="labels must be 5 whole numbers"):
        from_npz(tmp_path / "c.npz")


def test_sixteen_bit_weights_are_widened(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    wanted = {name: torch.rand_like(t, dtype=torch.float32) for name, t in net.state_dict().items()}
    del wanted["1.num_batches_tracked"]
    path = tmp_path / "w.safetensors"
    save_file({name: t.half() for name, t in wanted.items()}, path)
    load_weights(net, path)
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight, wanted["0.weight"].half().float())


def test_weights_of_another_network_are_refused_in_one_line(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"0.weight": torch.zeros(2, 3), "head": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"1 missing \(0.bias\); 1 unexpected \(head\)") as caught:
        load_weights(nn.Sequential(nn.Linear(3, 2)), path)
    assert "\n" not in str(caught.value)
    save_file({"0.weight": torch.zeros(2, 4), "0.bias": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"0.weight has shape \(2, 4\) where the network has"):
        load_weights(nn.Sequential(nn.Linear(3, 2)), path)
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"read from \.safetensors files only"):
        load_weights(nn.Sequential(nn.Linear(3, 2)), tmp_path / "w.pth")
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot read weights"):
        load_weights(nn.Sequential(nn.Linear(3, 2)), path)


@pytest.mark.data
def test_the_real_images_are_read_in_both_splits(data_dir):
    evaluation = load_images(data_dir / "images", split="eval", classes=1000)
    calibration = load_images(data_dir / "images", split="calib", classes=1000)
    assert (len(evaluation), len(calibration)) == (900, 500)
    assert evaluation.tensor(0, 2).shape == (2, 3, 224, 224)
    assert len(set(calibration.sample(64, 0).labels)) == 64
