"""Properties that identify the case tables."""

import numpy as np

from trellis_modules.representations.mesh.flexicubes_tables import EDGE_CORNERS, case_tables


def test_sheets_cover_exactly_the_crossed_edges():
    tables = case_tables()
    for case in range(256):
        crossed = [(case >> a & 1) != (case >> b & 1) for a, b in EDGE_CORNERS]
        assert (tables.edge_sheet[case] >= 0).tolist() == crossed
        used = set(tables.edge_sheet[case].tolist()) - {-1}
        assert used == set(range(tables.num_sheets[case]))


def test_known_sheet_counts():
    counts = case_tables().num_sheets
    assert counts[0] == counts[255] == 0
    assert counts[1] == 1  # one corner
    assert counts[0b10000001] == 2  # opposite corners
    assert counts[0b01101001] == 4  # no two corners share an edge
    assert counts.max() == 4


def test_problematic_cases_point_across_their_ambiguous_face():
    tables = case_tables()
    cases = np.flatnonzero(tables.problematic)
    assert len(cases) == 36 and {61, 62, 91, 249} <= set(cases.tolist())
    assert (np.abs(tables.across[cases]).sum(axis=1) == 1).all()
    assert (tables.num_sheets[255 - cases] == 2).all()
