import dataclasses
import math
import multiprocessing
import os
import socket

import pytest
import torch

from tests.benchmarks.toy import ToyVAE
from zoo.benchmarks.measures.bits_per_dim import BitsPerDim
from zoo.benchmarks.measures.evaluator import Evaluation, Settings, evaluate
from zoo.benchmarks.measures.identity import describe_split
from zoo.checkpoints import load
from zoo.data import open_split
from zoo.errors import UserError
from zoo.likelihood import LikelihoodTerms

VOLATILE = ("date", "seconds", "hardware", "command", "versions")


def numbers(record):
    return {name: value for name, value in dataclasses.asdict(record).items() if name not in VOLATILE}


def price(batch_size=16, limit=1, settings=None):
    model = ToyVAE()
    settings = settings or Settings()
    return evaluate(
        model, open_split("photos", "test", model.image_shape, limit=limit, batch_size=batch_size), settings
    )


def random_terms(n, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(3, n, generator=generator) * 100
    return LikelihoodTerms(noise[0], {"a": noise[1], "b": noise[2]}, num_dims=7)


def test_metric_equals_mean_and_standard_error_over_images():
    terms = random_terms(50, 0)
    metric = BitsPerDim(["a", "b"])
    metric.update(terms)
    summary = metric.compute()
    bits = terms.nelbo.double() / (7 * math.log(2))
    assert summary.bits_per_dim == pytest.approx(bits.mean().item(), abs=1e-9)
    assert summary.standard_error == pytest.approx(bits.std().item() / 50**0.5, rel=1e-6)
    assert summary.nats_per_image == pytest.approx(terms.nelbo.double().mean().item(), abs=1e-3)
    assert summary.distortion + summary.rate == pytest.approx(summary.bits_per_dim, abs=1e-6)
    assert summary.images == 50


def test_metric_does_not_depend_on_order_or_batching():
    terms = random_terms(64, 1)
    whole, parts = BitsPerDim(["a", "b"]), BitsPerDim(["a", "b"])
    whole.update(terms)
    order = torch.randperm(64)
    for piece in order.split([1, 30, 20, 13]):
        rates = {name: rate[piece] for name, rate in terms.rates.items()}
        parts.update(LikelihoodTerms(terms.distortion[piece], rates, 7))
    assert whole.compute() == parts.compute()


def test_metric_refuses_other_groups_and_an_empty_split():
    with pytest.raises(ValueError, match="groups"):
        BitsPerDim(["a"]).update(random_terms(2, 0))
    with pytest.raises(UserError, match="no image"), pytest.warns(UserWarning, match="compute"):
        BitsPerDim(["a"]).compute()


class Counting(ToyVAE):
    """Remembers every image it has priced."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def terms(self, x, label=None, noise=None):
        self.seen += list(x)
        return super().terms(x, label, noise)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100])
def test_every_test_image_is_counted_once(batch_size):
    model = Counting()
    loader = open_split("photos", "test", model.image_shape, limit=1, batch_size=batch_size)
    record = evaluate(model, loader)
    whole, _ = open_split("photos", "test", (3, 64, 64), limit=1).first(1)
    tiles = whole[0].unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).reshape(-1, 3, 8, 8)
    assert record.images == len(tiles) == len(model.seen)
    assert torch.equal(torch.stack(model.seen), tiles)


def test_noise_is_fixed_by_seed_pass_and_image_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = price()
    assert torch.equal(torch.rand(3), expected)
    assert numbers(first) == numbers(price())
    assert first.bits_per_dim != price(settings=Settings(seed=1)).bits_per_dim


@pytest.mark.parametrize("settings", [Settings(passes=2), Settings(importance_samples=3)])
def test_the_price_does_not_depend_on_the_batch_size(settings):
    expected = price(1, settings=settings)
    for batch_size in (7, 64, 100):
        found = price(batch_size, settings=settings)
        for name in ("bits_per_dim", "rate", "distortion", "standard_error"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6), name


@pytest.mark.parametrize("name", ["vdvae-photos-8bit", "vdm-photos-5bit"])
def test_an_image_of_a_real_model_costs_the_same_alone_and_in_company(name):
    network = load(name).network
    x, label = open_split("photos", "test", network.image_shape).read([3, 4, 9])
    evaluation = Evaluation(network)
    _, together = evaluation.price(x, label, [3, 4, 9])
    alone = [
        evaluation.price(x[row : row + 1], label[row : row + 1], [index])[1] for row, index in enumerate((3, 4, 9))
    ]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-5)
    _, another = evaluation.price(x, label, [3, 4, 10])
    assert torch.equal(together[:2], another[:2])
    assert together[2] != another[2]


def test_pricing_is_in_float32_whatever_the_precision_around_it():
    expected = price()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = price()
    assert numbers(found) == numbers(expected)
    assert (found.precision, found.tf32) == ("float32", False)


def test_passes_average_and_importance_samples_tighten():
    single = price(settings=Settings(passes=8))
    weighted = price(settings=Settings(importance_samples=8))
    assert single.kind == "bound"
    assert weighted.kind == "importance"
    assert weighted.bits_per_dim < single.bits_per_dim
    assert weighted.distortion == pytest.approx(single.distortion, abs=0.05)


def test_importance_bound_approaches_the_integral():
    model = ToyVAE(image_shape=(3, 8, 8))
    x = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    log_tables = torch.log_softmax(model.table.detach().double() * grid[:, None], dim=-1)  # (G, V)
    log_p = log_tables[:, x.flatten().long()].sum(1) - grid.square() / 2 - 0.5 * math.log(2 * math.pi)
    exact = -(torch.logsumexp(log_p, 0) + math.log(16 / 4000)).item()
    evaluation = Evaluation(model, Settings(importance_samples=2000))
    _, nelbo = evaluation.price(x, None, [0])
    assert nelbo.item() == pytest.approx(exact, abs=0.05)


def test_importance_samples_need_latents():
    class Plain(torch.nn.Module):
        priced = "pixels"

    with pytest.raises(UserError, match="no latents"):
        Evaluation(Plain(), Settings(importance_samples=5))


@pytest.mark.parametrize("field", [{"passes": 0}, {"importance_samples": -1}])
def test_impossible_settings_are_user_errors(field):
    with pytest.raises(UserError, match=next(iter(field))):
        Settings(**field)


def test_a_cost_that_is_not_finite_stops_the_evaluation():
    model = ToyVAE()
    model.table.data[3] = float("nan")
    with pytest.raises(UserError, match="image 0 of the split has a cost of nan"):
        evaluate(model, open_split("photos", "test", model.image_shape, limit=1, batch_size=4))


def test_missed_images_are_noticed():
    model = ToyVAE()
    loader = open_split("photos", "test", model.image_shape, limit=1, batch_size=16)
    evaluation = Evaluation(model)
    x, label = next(iter(loader))
    evaluation.update(x, label, loader.indices(0))

    with pytest.raises(UserError, match="16 images priced, the split has 64"):
        evaluation.record(describe_split(loader), 16, evaluation.summary())


def _worker(rank, world, port, queue):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    try:
        queue.put((rank, [numbers(price(batch_size)) for batch_size in (10, 64)]))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_equal_one_exactly():
    expected = [numbers(price(batch_size)) for batch_size in (10, 64)]  # at 64 the second process gets no batch
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_worker, args=(rank, 2, port, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    results = dict(queue.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    assert results[0] == results[1] == expected


class Twice(ToyVAE):
    """Two estimators of the same model, one of them a number of its own."""

    default_estimator = "plain"

    def estimators(self):
        return {"plain": "the bound", "halved": "half of it"}

    def terms_with(self, estimator, x, label=None, noise=None):
        terms = self.terms(x, label, noise)
        share = 0.5 if estimator == "halved" else 1.0
        rates = {name: share * rate for name, rate in terms.rates.items()}
        return LikelihoodTerms(share * terms.distortion, rates, terms.num_dims)


def test_named_estimator_is_used_and_recorded():
    model = Twice()
    loader = open_split("photos", "test", model.image_shape, limit=1, batch_size=16)
    plain, halved = (evaluate(model, loader, Settings(estimator=name)) for name in ("", "halved"))
    assert halved.bits_per_dim == pytest.approx(0.5 * plain.bits_per_dim)
    assert (plain.estimator, halved.estimator) == ("plain", "halved")


def test_unasked_estimators_are_refused():
    with pytest.raises(UserError, match="only one"):
        Evaluation(ToyVAE(), Settings(estimator="ode"))


def test_error_of_the_draws_is_told_apart_from_that_of_the_images():
    """With R passes the draws add their variance / R to that of the images."""
    single, many = price(), price(settings=Settings(passes=16))
    assert single.draw_error is None
    assert 0 < many.draw_error < many.standard_error
    again = price(settings=Settings(passes=16, seed=5))
    assert abs(again.bits_per_dim - many.bits_per_dim) < 5 * 2**0.5 * many.draw_error
