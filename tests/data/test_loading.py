"""Evaluation is exact on any number of processes; training follows from (seed, epoch, position)."""

import pickle

import numpy as np
import pytest
import torch

from zoo.data import open_split
from zoo.data.datamodule import ImageDataModule
from zoo.data.loading import BatchReader, apply, binarise
from zoo.data.locate import BUNDLED, locate
from zoo.data.packed import PackedSplit
from zoo.data.plans import EvaluationPlan, Request, TrainingPlan, Window
from zoo.data.prepare import Preparation, prepare
from zoo.errors import UserError

TEST = PackedSplit(BUNDLED, "test")


def photos(**options) -> ImageDataModule:
    return ImageDataModule("photos", **{"batch_size": 16, "crop": 32} | options)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("batch_size", [1, 10, 64, 1000])
def test_every_test_image_is_dealt_once_whatever_the_number_of_processes(world_size, batch_size):
    window = Window(64, 64, 32)
    dealt = {}
    for rank in range(world_size):
        plan = EvaluationPlan(33, window, batch_size, rank, world_size)
        for batch in range(len(plan)):
            request = plan.request(0, batch)
            dealt[plan.global_batch(batch)] = list(
                zip(request.indices.tolist(), request.tops.tolist(), request.lefts.tolist(), strict=True)
            )
    assert sorted(dealt) == list(range(plan.num_global_batches))
    everything = [sample for number in sorted(dealt) for sample in dealt[number]]
    assert everything == [(i, top, left) for i in range(33) for top in (0, 32) for left in (0, 32)]
    assert all(len(dealt[number]) == batch_size for number in range(plan.num_global_batches - 1))


def test_batches_do_not_depend_on_the_number_of_processes():
    alone = list(photos().evaluation_loader("test"))
    for rank in range(3):
        loader = photos().evaluation_loader("test", rank=rank, world_size=3)
        for batch, (images, _) in enumerate(loader):
            assert torch.equal(images, alone[loader.plan.global_batch(batch)][0])


def test_tiles_cover_the_images():
    images = torch.cat([images for images, _ in photos().test_dataloader()])  # (256, 3, 32, 32)
    rows = images.reshape(64, 2, 2, 3, 32, 32).permute(0, 1, 4, 2, 5, 3).reshape(64, 64, 64, 3)
    np.testing.assert_array_equal(rows.numpy(), TEST.images(np.arange(64)))


def test_whole_images_without_crop():
    images, labels = next(iter(photos(crop=None, batch_size=64).test_dataloader()))
    assert images.shape == (64, 3, 64, 64)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [-1] * 64


def test_training_crops_are_windows_of_training_images():
    train = PackedSplit(BUNDLED, "train").images(np.arange(10))
    loader = photos(limit=10, batch_size=10).train_dataloader()
    request = loader.plan.request(0, 0)
    images, _ = next(iter(loader))
    assert sorted(request.indices.tolist()) == list(range(10))
    for image, index, top, left in zip(images, request.indices, request.tops, request.lefts, strict=True):
        window = train[index, top : top + 32, left : left + 32]
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), window)


def _training(world_size: int = 1, batch_size: int = 4, **options) -> list[TrainingPlan]:
    settings = {"num_images": 50, "window": Window(64, 64, 32), "seed": 3, "flip": True, "crops_per_image": 2}
    return [TrainingPlan(**settings | options, batch_size=batch_size, rank=r, world_size=world_size) for r in range(world_size)]  # fmt: skip # noqa: E501


def _flat(plans: list[TrainingPlan], epoch: int) -> list[tuple]:
    rows = []
    for batch in range(len(plans[0])):
        for plan in plans:
            r = plan.request(epoch, batch)
            rows += zip(r.indices.tolist(), r.tops.tolist(), r.lefts.tolist(), r.flips.tolist(), strict=True)
    return rows


def test_training_order_depends_on_seed_epoch_and_position_only():
    alone = _flat(_training(1, 4), 5)
    assert _flat(_training(2, 2), 5) == alone
    assert _flat(_training(1, 10), 5)[:90] == alone[:90]
    assert _flat(_training(1, 4), 6) != alone
    assert _flat(_training(1, 4, seed=4), 5) != alone


def test_ranks_step_equally_often_and_never_share_a_position():
    plans = _training(3, 4)
    assert {len(plan) for plan in plans} == {100 // 12}


def test_an_epoch_visits_each_image_as_often_as_asked():
    rows = _flat(_training(1, 4), 0)
    assert np.bincount([row[0] for row in rows]).tolist() == [2] * 50
    tops = np.array([row[1] for row in rows])
    assert tops.min() >= 0
    assert tops.max() <= 32


def test_switching_an_augmentation_on_leaves_the_rest_as_it_was():
    with_flip, without = _training(flip=True)[0].request(0, 0), _training(flip=False)[0].request(0, 0)
    np.testing.assert_array_equal(with_flip.tops, without.tops)
    np.testing.assert_array_equal(with_flip.indices, without.indices)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    options = {"flip": True, "rotate": True, "swap_channels": True, "limit": 40}
    alone = photos(**options).train_dataloader()
    helped = photos(**options, num_workers=workers).train_dataloader()
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        for (a, _), (b, _) in zip(alone, helped, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_left_early_leaves_no_trace(workers):
    alone, helped = photos(limit=64).train_dataloader(), photos(limit=64, num_workers=workers).train_dataloader()
    for epoch in range(3):  # of 4 batches, 2 are taken
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        for (a, _), (b, _), _ in zip(alone, helped, range(2), strict=False):
            assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_random_numbers_alone(workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for _ in photos(num_workers=workers, limit=32, flip=True).train_dataloader():
        pass
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_hook_starts_inside_an_epoch(workers):
    whole = photos(limit=64).train_dataloader()
    whole.set_epoch(2)
    rest = list(whole)[3:]
    loader = photos(limit=64, num_workers=workers).train_dataloader()
    loader.resume(epoch=2, batches_done=3)
    for (a, _), (b, _) in zip(loader, rest, strict=True):
        assert torch.equal(a, b)
    assert loader.state_dict()["batches_done"] == 4


def test_augmentation_rates_and_flags():
    plan = TrainingPlan(4000, Window(8, 8), 4000, flip=True, rotate=True, swap_channels=3)
    request = plan.request(0, 0)
    assert abs(request.flips.mean() - 0.5) < 0.03
    turns = np.bincount(request.turns, minlength=4) / 4000
    np.testing.assert_allclose(turns, [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.03)
    straight = (request.channels == [0, 1, 2]).all(1).mean()
    assert abs(straight - (1 / 2 + 1 / 12)) < 0.03
    assert abs(request.augmented.mean() - (1 - 1 / 2 * 1 / 2 * 7 / 12)) < 0.03


def test_augmentations_do_what_their_names_say():
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)  # (B, C, H, W)
    rows = np.arange(3)
    flips = np.array([True, False, True])
    flipped = apply(images.copy(), Request(rows, flips=flips))
    np.testing.assert_array_equal(flipped[0], images[0, :, :, ::-1])
    np.testing.assert_array_equal(flipped[1], images[1])
    turned = apply(images.copy(), Request(rows, turns=np.array([0, 1, 2])))
    np.testing.assert_array_equal(turned[2], images[2, :, ::-1, ::-1])
    np.testing.assert_array_equal(turned[1], np.rot90(images[1], axes=(1, 2)))
    swapped = apply(images.copy(), Request(rows, channels=np.array([[2, 1, 0]] * 2 + [[1, 2, 0]])))
    np.testing.assert_array_equal(swapped[:2], images[:2, ::-1])
    np.testing.assert_array_equal(swapped[2], images[2, [1, 2, 0]])


def test_flag_of_augmented_training_is_zero_in_evaluation():
    data = photos(flip=True, rotate=True, labels="augmented", batch_size=64)
    loader = data.train_dataloader()
    _, flags = next(iter(loader))
    assert flags.tolist() == loader.plan.request(0, 0).augmented.tolist()
    assert 0 < flags.sum() < 64
    assert not any(flags.any() for _, flags in data.test_dataloader())


@pytest.fixture
def grey(tmp_path) -> str:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8))
    prepare(Preparation("folder", tmp_path / "x.npy", tmp_path / "grey.h5"))
    return str(tmp_path / "grey.h5")


def test_binarisation_is_fixed_in_evaluation_and_fresh_in_training(grey):
    data = ImageDataModule(grey, batch_size=3, binarize=True, pad=2, test_split="train")
    first, again = (torch.cat([x for x, _ in data.test_dataloader()]) for _ in range(2))
    assert torch.equal(first, again)
    larger = ImageDataModule(grey, batch_size=7, binarize=True, pad=2, test_split="train")
    assert torch.equal(torch.cat([x for x, _ in larger.test_dataloader()]), first)
    assert set(first.unique().tolist()) == {0, 255}
    assert first.shape[1:] == (1, 32, 32) == data.image_shape
    assert not first[:, :, :2].any()
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        by_index = {}
        for batch, (x, _) in enumerate(loader):
            by_index |= dict(zip(loader.plan.request(epoch, batch).indices.tolist(), x, strict=True))
        epochs.append(by_index)
    assert any(not torch.equal(epochs[0][i], epochs[1][i]) for i in epochs[0].keys() & epochs[1].keys())


def test_binarised_pixels_have_the_grey_level_as_mean():
    image = np.array([[[0], [1], [128], [254], [255]]], np.uint8)
    draws = np.mean([binarise(image, np.uint64(key)) for key in range(4000)], axis=0).ravel()
    assert draws[0] == 0
    assert draws[4] == 255
    np.testing.assert_allclose(draws, image.ravel(), atol=4 * 255 * 0.5 / 4000**0.5)


def test_readers_survive_pickling_and_spawn():
    reader = BatchReader(TEST, (32, 32))
    reader[0]
    copy = pickle.loads(pickle.dumps(reader))
    assert torch.equal(copy[3][0], reader[3][0])


def test_single_items_are_whole_images():
    image, label = BatchReader(TEST, (64, 64))[5]
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), TEST.images([5])[0])
    assert label == -1


def test_limit_shortens_every_split():
    data = photos(limit=5, batch_size=4)
    assert [len(loader) for loader in (data.train_dataloader(), data.test_dataloader())] == [1, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 65}, "crop=65 does not fit images of 64x64"),
        ({"crop": 48}, "does not tile"),
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"batch_size": 1000}, "lower batch_size"),
        ({"limit": 0}, "data.limit=0"),
    ],
)
def test_wrong_settings_are_user_errors(options, message):
    def load():
        data = photos(**options)
        next(iter(data.train_dataloader()))
        next(iter(data.test_dataloader()))

    with pytest.raises(UserError, match=message):
        load()


def test_more_processes_than_batches_is_a_user_error_under_a_trainer():
    class Many:
        global_rank, world_size, overfit_batches = 0, 300, 0

    data = photos(batch_size=1)
    data.trainer = Many()
    with pytest.raises(UserError, match=r"256 batch\(es\) for 300 processes"):
        data.test_dataloader()


def test_missing_split_names_those_there_are(grey):
    with pytest.raises(UserError, match=r"no split 'val'; it has train, test"):
        ImageDataModule(grey).val_dataloader()


def test_unknown_names_get_a_hint(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    for name, message in (
        ("cifar1", "did you mean 'cifar10'"),
        ("cifar10", "zoo data prepare cifar10"),
        ("cifar10-full", "zoo data prepare cifar10 --split full"),
        ("x/y.h5", "no such file"),
        ("photo", "did you mean 'photos'"),
    ):
        with pytest.raises(UserError, match=message):
            locate(name)


def test_names_stand_for_files_in_the_data_folder(monkeypatch, tmp_path, grey):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert locate("grey") == tmp_path / "grey.h5"
    assert ImageDataModule("grey").info.name == "grey"


# the one door


def grey_file(tmp_path, side=28, count=7):
    from zoo.data.writer import PackedWriter, new_file

    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 1), dtype=np.uint8)
    with new_file(tmp_path / "grey.h5") as path, PackedWriter(path, {"test": count}, (side, side, 1)) as writer:
        for image in images:
            writer.add("test", image)
        writer.finish({"name": "grey", "variant": "grey"})
    return tmp_path / "grey.h5", images


def test_the_door_and_the_data_module_hand_out_the_same(tmp_path):
    path, images = grey_file(tmp_path)
    settings = {"pad": 2, "binarize": True, "crop": None, "dataset": str(path), "labels": "none", "val_split": "val"}
    through_door = open_split(None, "test", (1, 32, 32), settings, batch_size=3)
    module = ImageDataModule(str(path), eval_batch_size=3, pad=2, binarize=True, labels="none")
    for (x, label), (y, other) in zip(through_door, module.test_dataloader(), strict=True):
        assert torch.equal(x, y)
        assert torch.equal(label, other)
    assert set(np.unique(through_door.first(7)[0])) == {0, 255}
    plain = open_split(path, "test", (1, 28, 28)).first(7)[0]
    np.testing.assert_array_equal(plain.numpy().transpose(0, 2, 3, 1), images)


def test_the_door_cuts_padded_tiles_of_the_models_size(tmp_path):
    path, images = grey_file(tmp_path)
    loader = open_split(path, "test", (1, 18, 18), {"pad": 2})
    assert loader.image_shape == (1, 18, 18)
    assert loader.plan.num_samples == 28
    np.testing.assert_array_equal(loader.read([3])[0][0, 0, 2:-2, 2:-2], images[0, 14:, 14:, 0])
    whole = open_split(path, "test", (1, 18, 18), {"pad": 2, "binarize": True}, whole=True)
    np.testing.assert_array_equal(whole.read([6])[0][0].permute(1, 2, 0), images[6])


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 32, 32), (1, 9, 9), (1, 14, 7)])
def test_the_door_refuses_what_does_not_fit(tmp_path, shape):
    path, _ = grey_file(tmp_path)
    with pytest.raises(UserError, match=r"grey.h5|crop=9 does not tile"):
        open_split(path, "test", shape)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_numbers_of_images_do_not_depend_on_the_number_of_processes(world):
    everything = open_split("photos", "test", (3, 32, 32), limit=5, batch_size=3)
    whole = everything.first(1000)[0]
    for rank in range(world):
        loader = open_split("photos", "test", (3, 32, 32), limit=5, batch_size=3, place=(rank, world))
        for position, (x, _) in enumerate(loader):
            assert torch.equal(x, whole[loader.indices(position)])
        assert torch.equal(loader.first(1)[0], whole[:1])
        with pytest.raises(IndexError):
            loader.plan.request(0, -rank - 1)


def test_a_spread_reaches_from_the_first_image_to_the_last():
    loader = open_split("photos", "test", (3, 64, 64))
    x, _ = loader.spread(3)
    assert torch.equal(x, loader.read([0, 31, 63])[0])
    assert len(loader.spread(1000)[0]) == 64
