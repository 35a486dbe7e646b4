import numpy as np
import torch

from embryo.blocks.diffusion import Medium, concentration, screened


def cloud(seed: int, n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(0, 25, (n, 3))), torch.tensor(rng.random(n))


def test_a_point_source_gives_the_closed_form() -> None:
    """exp(-kappa r) / (4 pi D r) on a fine grid with a small source."""
    medium = Medium(source_sd_um=1.5, spacing_um=2.0, padding=4.0)
    r = np.linspace(8, 40, 30)
    x = np.zeros((31, 3))
    x[1:, 0] = r
    c, _ = screened(medium, x, np.r_[1.0, np.zeros(30)])
    expected = medium.secretion_um3_per_h * np.exp(-r / medium.screening_um) / (4 * np.pi * 150.0 * r)
    np.testing.assert_allclose(c[1:], expected, rtol=0.03)


def test_tensors_and_arrays_give_the_same_field() -> None:
    x, level = cloud(0)
    c, _ = screened(Medium(), x.numpy(), level.numpy())
    np.testing.assert_allclose(concentration(Medium(), x, level).numpy(), c, rtol=1e-10)


def test_the_gradient_in_the_levels_is_that_of_differences() -> None:
    x, level = cloud(1, 12)
    level.requires_grad_()
    assert torch.autograd.gradcheck(lambda made: concentration(Medium(), x, made), (level,))


def test_source_and_reader_may_be_swapped() -> None:
    x, _ = cloud(2, 9)
    matrix = torch.stack([concentration(Medium(), x, one) for one in torch.eye(9, dtype=torch.float64)])
    torch.testing.assert_close(matrix, matrix.T)
