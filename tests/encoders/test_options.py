import pytest
import torch

from embryo.core.errors import ConfigError
from embryo.encoders.options import Options

ABSENT = ["gpu", "cpu:x", *([] if torch.cuda.is_available() else ["cuda"])]


@pytest.mark.parametrize("device", ABSENT)
def test_a_device_that_is_not_here_is_told(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}'"):
        Options(device=device).checked()


def test_float32_is_the_rule_and_bfloat16_on_demand() -> None:
    assert Options().precise == "float32"
    assert Options(dtype="bfloat16").precise == "bfloat16"
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with Options(dtype="bfloat16").precision():
        assert (x @ x).dtype == torch.bfloat16
    with Options().precision():
        assert (x @ x).dtype == torch.float32
