"""What a model offers is declared on the base classes and asked there, nowhere by looking for attributes."""

import ast
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, Bernoulli

MODELS = {"model", "network", "first_stage", "autoencoder"}


class Plain(AncestralModel):
    """A model that offers nothing beyond its price."""

    bits, image_shape = 1, (1, 2, 2)

    def ancestral_pass(self, policy, x=None, n=1, label=None):
        return Bernoulli(torch.zeros(n if x is None else len(x), 1, 2, 2))


def _asked(tree: ast.AST):
    """Calls like hasattr(model, "x") or getattr(network, "x", default)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            subject = node.args[0]
            if isinstance(subject, ast.Attribute) and getattr(subject.value, "id", "") == "cli":
                continue  # `cli.model` is a Lightning module
            name = subject.attr if isinstance(subject, ast.Attribute) else getattr(subject, "id", "")
            if name in MODELS:
                yield node.lineno


def test_no_code_looks_for_attributes_of_models():
    found = {
        str(path): lines
        for path in Path(zoo.__file__).parent.rglob("*.py")
        if (lines := [*_asked(ast.parse(path.read_text()))])
    }
    assert not found


def test_a_plain_model_offers_nothing_and_says_so():
    model = Plain()
    assert (model.steps, model.estimators(), model.previews(None), dict(model.code_grids)) == (None, {}, {}, {})
    assert torch.equal(model.terms_with("", model.example(3)).nelbo, model.terms(model.example(3)).nelbo)
    with pytest.raises(UserError, match="has only one"):
        model.terms_with("exact", model.example())
    with pytest.raises(UserError, match="no first stage"):
        model.reconstruct(model.example())
    with pytest.raises(UserError, match="cannot grow"):
        model.render(lambda site: site.prior.sample(), canvas=(4, 4))
    assert model.render(lambda site: site.prior.sample(), n=2).shape == (2, 1, 2, 2)
