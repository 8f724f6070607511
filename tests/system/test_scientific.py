"""The real scientific stack: locked once, everything but the store thrown away, rebuilt offline, equal, and at work."""

from __future__ import annotations

import shutil

import pytest
from tests.conftest import Commands

STACK = ("numpy", "pandas", "scikit-learn", "matplotlib", "scipy")


@pytest.mark.slow
def test_the_scientific_stack_is_rebuilt_offline_to_the_byte(lonely: Commands) -> None:
    lonely.write("requirements.txt", "".join(f"{name}\n" for name in STACK))
    done = lonely("env", "lock", "requirements.txt", "--name", "science", "--json")
    assert done.code == 0, done.err
    assert done.json["environments"][0]["not_kept"] == []
    before = lonely("env", "build", "science", "--json").json["tree"]
    for folder in ("envs", "pythons", "cache", "trees"):
        shutil.rmtree(lonely.store / folder, ignore_errors=True)
    lonely.variables.update(UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_CACHE_DIR="/nonexistent", UV_OFFLINE="1")
    assert lonely("env", "build", "science", "--json").json["tree"] == before
    code = (
        "import numpy, pandas, scipy.linalg, sklearn.linear_model, matplotlib; matplotlib.use('agg');"
        "import matplotlib.pyplot as plot; plot.plot([1, 2]); plot.savefig('curve.png');"
        "model = sklearn.linear_model.LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]);"
        "print(round(float(model.coef_[0]), 6), round(float(scipy.linalg.det(numpy.eye(3))), 6),"
        "len(pandas.DataFrame({'a': [1]})))"
    )
    done = lonely("env", "run", "science", "--", "python", "-c", code)
    assert done.out.split() == ["2.0", "1.0", "1"], done.err
    assert lonely("env", "verify", "science").code == 0
