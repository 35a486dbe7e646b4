"""What is known of a circuit beforehand: roles of genes, and what weights cost under a prior."""

import torch

from embryo.fields.circuit import Held
from embryo.fit.tissue import Forces
from embryo.fit.wiring import FORBIDDEN, Wiring, silenced


def test_roles_are_those_that_were_named() -> None:
    assert Wiring(("l",)).roles == {"ligand": ("l",), "cycling gene": ()}
    named = Wiring(cycling=("c",), forces=Forces(("s",), ("m", "n"))).roles
    assert named["sticky gene"] == ("s",)
    assert named["motile gene"] == ("m", "n")


def test_a_prior_makes_its_edges_cheap_and_a_hard_one_forbids_the_others_but_found_inputs() -> None:
    edges = (("a", "b"), ("l", "a"), ("in", "b"))
    assert Wiring().penalties(("a", "b"), ("in",)) is None
    soft = Wiring(("l",), prior=edges).penalties(("a", "b"), ("in",))
    wanted = torch.tensor([[1, 1, 1, 0.05], [0.05, 1, 0.05, 1]], dtype=torch.float64)
    torch.testing.assert_close(soft, wanted)
    hard = Wiring(("l",), prior=edges, hard=True)
    no = FORBIDDEN
    torch.testing.assert_close(
        hard.penalties(("a", "b"), ("in",)),
        torch.tensor([[no, no, 1, 0.05], [0.05, no, 0.05, no]], dtype=torch.float64),
    )
    measured = Wiring(("l",), prior=edges, hard=True, held=Held(("in",), [9.0]))
    penalties = measured.penalties(("a", "b"), ("of the residual", "in"))
    torch.testing.assert_close(
        penalties,
        torch.tensor([[no, no, 1, no, 0.05], [0.05, no, 1, 0.05, no]], dtype=torch.float64),
    )


def test_a_label_silences_its_genes_or_none() -> None:
    assert silenced("knockout b + knockout a", ("a", "b")) == (1, 0)
    assert silenced("knockout b + overexpress a", ("a", "b")) == ()
    assert silenced("knockout c", ("a", "b")) == ()
