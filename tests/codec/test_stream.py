"""Whole streams: every pixel back, at the price of the bound."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.toy import ExactModel, ToyVAE
from zoo.codec import Entry, Image, Options, decode, encode, from_batch, measure, unpack
from zoo.codec.tiles import assemble, cut, even_batches, spread, tile_sizes
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, from_levels, to_levels

IDENTITY = b"twelve bytes"


def smooth_images(count: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    """(count, 3, size, size) uint8 with structure the toy can use."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 2, 2, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    noise = 0.03 * torch.randn(fine.shape, generator=generator)
    return ((fine + noise).clamp(0, 1) * 255).to(torch.uint8)


def images_of(*arrays: np.ndarray) -> list[Image]:
    return [
        Image(Entry(f"{number}.png", "R", array.shape[1:]), lambda frame, array=array: array)
        for number, array in enumerate(arrays)
    ]


@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("chained", [True, False])
@pytest.mark.parametrize(("count", "batch_size"), [(1, 16), (2, 2), (5, 2), (7, 4), (9, 4)])
def test_round_trip_is_exact(bits: int, chained: bool, count: int, batch_size: int) -> None:
    torch.manual_seed(0)
    result = measure(ToyVAE(bits), IDENTITY, smooth_images(count), Options(batch_size, chained))
    assert result.exact


@pytest.mark.parametrize("bits", [8, 5])
def test_net_length_is_the_evaluated_bound(bits: int) -> None:
    torch.manual_seed(0)
    model, x = ToyVAE(bits), smooth_images(400)
    with torch.no_grad():
        evaluated = torch.stack([model.terms(x).bits_per_dim().mean() for _ in range(10)]).mean().item()
    report = measure(model, IDENTITY, x, Options(40, chained=True)).report
    assert report.net == pytest.approx(report.bound, rel=2e-3)
    assert report.net == pytest.approx(evaluated, rel=5e-3)
    assert report.initial_bits > 0


def test_rounded_latents_need_no_initial_bits_and_cost_a_quarter_bit_each() -> None:
    model, x = ToyVAE(), smooth_images(32)
    rounded = measure(model, IDENTITY, x, Options(16, False)).report
    chained = measure(model, IDENTITY, x, Options(16, True)).report
    assert rounded.initial_bits == 0
    coded_latents = 32 * 3 * (16 + 64)
    assert (rounded.net - chained.net) * rounded.dims < 0.45 * coded_latents


def test_channels_that_repeat_the_prior_cost_nothing() -> None:
    data, _ = encode(ToyVAE(), IDENTITY, from_batch(smooth_images(4)), Options(chained=False))
    header, _ = unpack(data, "memory")
    import zlib

    codes = np.frombuffer(zlib.decompress(header.profile), dtype=np.uint8)
    assert codes.reshape(2, 4)[:, 3].tolist() == [0, 0]
    assert (codes.reshape(2, 4)[:, :3] > 0).all()


def test_photographs_of_any_size_come_back() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (3, h, w), dtype=np.uint8) for h, w in ((8, 8), (13, 21), (1, 1), (30, 7))]
    data, report = encode(ToyVAE(), IDENTITY, images_of(*arrays), Options(3, True))
    decoded = {entry.name: pixels for entry, _, pixels in decode(ToyVAE(), IDENTITY, data, "memory")}
    assert all(np.array_equal(decoded[f"{number}.png"], array) for number, array in enumerate(arrays))
    assert report.dims == sum(array.size for array in arrays)


def test_models_with_codes_and_latents_share_the_stack() -> None:
    result = measure(ExactModel(), IDENTITY, smooth_images(9, size=4), Options(4, True))
    assert result.exact


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_another_process_decodes_with_any_number_of_threads(tmp_path: Path, encoder: int, decoder: int) -> None:
    x = smooth_images(5, seed=3)
    before = torch.get_num_threads()
    torch.set_num_threads(encoder)
    data, _ = encode(ToyVAE(), IDENTITY, from_batch(x), Options(2, True))
    torch.set_num_threads(before)
    (tmp_path / "f.zoo").write_bytes(data)
    np.save(tmp_path / "x.npy", x.numpy())
    script = (
        "import sys, numpy as np; from pathlib import Path; from tests.codec.toy import ToyVAE; "
        "from zoo.codec import decode; folder = Path(sys.argv[1]); x = np.load(folder / 'x.npy'); "
        "got = {e.name: p for e, _, p in decode(ToyVAE(), b'twelve bytes', (folder / 'f.zoo').read_bytes(), 'f.zoo')}; "
        "assert all(np.array_equal(got[f'image-{i:06d}.png'], x[i]) for i in range(5))"
    )
    env = os.environ | {"OMP_NUM_THREADS": str(decoder)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=Path(__file__).parents[2], env=env)


def test_other_weights_fail_the_check_sum_instead_of_giving_wrong_pixels() -> None:
    data, _ = encode(ToyVAE(seed=0), IDENTITY, from_batch(smooth_images(4)), Options(chained=True))
    with pytest.raises(UserError):
        list(decode(ToyVAE(seed=1), IDENTITY, data, "memory"))


def test_another_identity_is_refused_before_anything_is_computed() -> None:
    data, _ = encode(ToyVAE(), IDENTITY, from_batch(smooth_images(1)))
    with pytest.raises(UserError, match="another checkpoint"):
        list(decode(ToyVAE(), b"other bytes!", data, "memory"))


def test_images_with_more_bits_than_the_model_are_refused() -> None:
    with pytest.raises(UserError, match="more than the 5 bits"):
        encode(ToyVAE(bits=5), IDENTITY, from_batch(smooth_images(1)))


def test_outliers_do_not_breed_over_batches() -> None:
    """Without whitening, an unusual latent of one batch becomes an unusual posterior draw of the next."""
    from zoo.codec import bits_back

    deviations: list[float] = []
    plain = bits_back.pop_posterior

    def watched(stack, mean, std, reach):
        k = plain(stack, mean, std, reach)
        deviations.append(float((np.abs(k - mean) / np.maximum(std, 1.0)).max(initial=0.0)))
        return k

    bits_back.pop_posterior = watched
    try:
        x = from_levels(to_levels(smooth_images(300), 8), 8)
        encode(ToyVAE(), IDENTITY, from_batch(x), Options(20, True))
    finally:
        bits_back.pop_posterior = plain
    assert max(deviations) < 6.5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_tiles_put_together_are_the_image(height: int, width: int, tile_height: int, tile_width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    tile = (tile_height, tile_width)
    pieces = list(cut(image, tile))
    assert len(pieces) == len(tile_sizes(height, width, tile))
    ((number, whole),) = assemble([(height, width)], tile, 3, reversed(pieces))
    assert number == 0
    assert np.array_equal(whole, image)


@given(st.integers(1, 500), st.integers(1, 64))
def test_batches_hold_every_tile_and_are_as_equal_as_can_be(tiles: int, batch_size: int) -> None:
    batches = even_batches(tiles, batch_size)
    assert sum(batches) == tiles
    assert max(batches) <= batch_size
    assert max(batches) - min(batches) <= 1


@given(st.integers(1, 500), st.integers(1, 64))
def test_a_sample_is_spread_over_the_stream(tiles: int, count: int) -> None:
    chosen = spread(tiles, count)
    assert len(set(chosen)) == min(tiles, count)
    assert min(chosen) >= 0
    assert max(chosen) < tiles


def test_the_same_images_give_the_same_bytes_whatever_was_drawn_before() -> None:
    coded = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        coded.append(encode(ToyVAE(), IDENTITY, from_batch(smooth_images(6)))[0])
    assert coded[0] == coded[1]


def test_encoding_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    encode(ToyVAE(), IDENTITY, from_batch(smooth_images(2)))
    assert torch.equal(torch.rand(4), expected)


def test_a_stack_of_images_stays_one_entry() -> None:
    x = smooth_images(3).numpy()
    stack = Image(Entry("stack.npy", "A", (3, 8, 8, 3)), lambda frame: x[frame])
    data, _ = encode(ToyVAE(), IDENTITY, [stack, *from_batch(smooth_images(2))], Options(2, True))
    decoded = list(decode(ToyVAE(), IDENTITY, data, "memory"))
    assert [(entry.name, frame) for entry, frame, _ in decoded[2:]] == [("stack.npy", n) for n in (2, 1, 0)]
    assert all(np.array_equal(pixels, x[frame]) for _, frame, pixels in decoded[2:])


def test_a_chain_borrows_for_its_first_tile_only() -> None:
    report = measure(ToyVAE(), IDENTITY, smooth_images(200), Options(64, True)).report
    few = measure(ToyVAE(), IDENTITY, smooth_images(1), Options(64, True)).report
    assert report.initial_bits < 1.5 * few.initial_bits + 64


def test_progress_counts_every_tile() -> None:
    seen: list[tuple[int, int]] = []
    model: AncestralModel = ToyVAE()
    data, _ = encode(
        model, IDENTITY, from_batch(smooth_images(5)), Options(2, True), progress=lambda *now: seen.append(now)
    )
    assert seen[-1] == (5, 5)
    seen.clear()
    list(decode(model, IDENTITY, data, "memory", progress=lambda *now: seen.append(now)))
    assert seen[-1] == (5, 5)
