"""DataLoaders and datasets become images without a change of their values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, TensorDataset

from quant import from_dataset, from_loader
from quant.loaders import regrouped


def pairs(count, shape=(3, 4, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(7, (count,), generator=generator)
    return torch.randn(count, *shape, generator=generator), labels


class WithTargets(Dataset):
    """Like torchvision's: labels are known without reading images."""

    def __init__(self, count):
        self.images, labels = pairs(count)
        self.targets = labels.tolist()
        self.read = []

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        self.read.append(index)
        return self.images[index], self.targets[index]


@pytest.mark.parametrize("count", [None, 1, 5, 8, 11])
def test_a_loaders_images_keep_their_values_and_order(count):
    images, labels = pairs(11)
    found = from_loader(DataLoader(TensorDataset(images, labels), batch_size=4), count)
    assert len(found) == (count or 11)
    assert torch.equal(found.tensor(), images[:count])
    assert found.labels.tolist() == labels[:count].tolist()


def test_no_more_of_a_loader_is_read_than_is_wanted():
    read = []

    def batches():
        for i in range(9):
            read.append(i)
            yield pairs(4)

    from_loader(batches(), 8)
    assert read == [0, 1, 2]


def test_a_dataset_is_read_when_its_images_are():
    dataset = WithTargets(6)
    found = from_dataset(dataset)
    assert found.labels.tolist() == dataset.targets
    assert dataset.read == [0]  # to see what kind it gives
    dataset.read.clear()
    assert torch.equal(found.take(np.array([4, 1])).tensor(), dataset.images[[4, 1]])
    assert dataset.read == [4, 1]


def test_a_dataset_without_targets_is_asked_for_them():
    images, labels = pairs(5)
    assert from_dataset(TensorDataset(images, labels)).labels.tolist() == labels.tolist()


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), size=st.integers(1, 10))
def test_regrouping_changes_nothing_but_the_batches(sizes, size):
    images, labels = pairs(sum(sizes), (1, 1, 1))
    batches = zip(images.split(sizes), labels.split(sizes), strict=True)
    found = list(regrouped(batches, size))
    assert torch.equal(torch.cat([part for part, _ in found]), images)
    assert torch.equal(torch.cat([part for _, part in found]), labels)
    assert all(len(part) == size for part, _ in found[:-1])
    assert 1 <= len(found[-1][0]) <= size


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((torch.zeros(2, 3, 4, 4),), r"got \[\(2, 3, 4, 4\)\]"),
        (torch.zeros(2, 3, 4, 4), r"got \[\(2, 3, 4, 4\)\]"),
        ((torch.zeros(2, 3), torch.zeros(2).long()), r"got \[\(2, 3\), \(2,\)\]"),
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2, 10)), r"got \[\(2, 3, 4, 4\), \(2, 10\)\]"),
        ((torch.zeros(2, 3, 4, 4), torch.rand(2)), "class numbers"),
        ({"image": 1}, r"got \['dict'\]"),
    ],
)
def test_other_batches_are_refused(batch, said):
    with pytest.raises(ValueError, match=said):
        from_loader([batch])


def test_too_few_images_and_several_sizes_are_refused():
    with pytest.raises(ValueError, match="9 were asked for, the loader gives 8"):
        from_loader([pairs(4), pairs(4)], 9)
    with pytest.raises(ValueError, match="some were asked for, the loader gives 0"):
        from_loader([])
    with pytest.raises(ValueError, match=r"one batch has images of \(3, 4, 5\), another of \(1,"):
        from_loader([pairs(2), pairs(2, (1, 4, 5))])
    with pytest.raises(ValueError, match="the dataset is empty"):
        from_dataset(TensorDataset(*pairs(0)))
    with pytest.raises(ValueError, match="expected 3 labels, one per image"):
        from_dataset(TensorDataset(*pairs(3)), [1, 2])
