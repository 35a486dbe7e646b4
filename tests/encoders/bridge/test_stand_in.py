import ast
from pathlib import Path

from embryo.encoders.bridge import link, stand_in


def test_the_stand_in_needs_nothing_of_embryo() -> None:
    tree = ast.parse(Path(stand_in.__file__).read_text(encoding="utf-8"))
    taken = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    taken |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert taken
    assert not [name for name in taken if name.split(".")[0] == "embryo"]
    assert stand_in.PROTOCOL == link.PROTOCOL
