import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scenegen.evaluation.neighbours import Neighbours


@pytest.mark.parametrize("package", ["pykdtree", "scipy"])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_both_packages_find_the_nearest_point(monkeypatch, package, count):
    if package == "scipy":
        monkeypatch.setitem(sys.modules, "pykdtree.kdtree", None)
    else:
        pytest.importorskip("pykdtree")
    rng = np.random.default_rng(count)
    cloud, points = rng.normal(size=(3, count)).T, 2 * rng.normal(size=(300, 3))
    neighbours = Neighbours(cloud)
    assert type(neighbours._tree).__module__.split(".")[0] == package
    distances, indices = neighbours.of(points)
    pairs = cdist(points, cloud)
    np.testing.assert_array_equal(indices, pairs.argmin(axis=1))
    np.testing.assert_allclose(distances, pairs.min(axis=1), atol=1e-12)
