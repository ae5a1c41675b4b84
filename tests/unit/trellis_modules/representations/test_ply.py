"""Reading and writing vertex tables."""

import numpy as np
import pytest

from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.ply import read_ply_vertices, write_ply_vertices

HEADER = "ply\nformat binary_little_endian 1.0\n"
COLUMN = "property float x\n"


def test_round_trip(tmp_path):
    columns = {"x": np.array([1.0, 2.5]), "weight": np.array([-3.0, 4.0])}
    write_ply_vertices(tmp_path / "a.ply", columns)
    vertices = read_ply_vertices(tmp_path / "a.ply")
    assert vertices.dtype.names == ("x", "weight")
    assert vertices["weight"].tolist() == [-3.0, 4.0]


def test_comments_stand_where_viewers_that_count_lines_do_not_miss_any(tmp_path):
    write_ply_vertices(tmp_path / "a.ply", {"x": np.array([1.0])}, ["y is down"])
    lines = (tmp_path / "a.ply").read_bytes().split(b"\n")
    assert lines[2:6] == [b"element vertex 1", b"property float x", b"comment y is down", b"end_header"]
    assert read_ply_vertices(tmp_path / "a.ply")["x"].tolist() == [1.0]


def test_reads_mixed_types_comments_and_ignores_later_elements(tmp_path):
    header = HEADER + "comment by hand\nelement vertex 1\nproperty double x\nproperty uchar red\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_bytes(header.encode() + np.float64(1.25).tobytes() + b"\x07" + b"\x00rest")
    assert read_ply_vertices(tmp_path / "a.ply").tolist() == [(1.25, 7)]


def test_columns_of_different_length(tmp_path):
    with pytest.raises(ValueError, match="one length"):
        write_ply_vertices(tmp_path / "a.ply", {"x": np.zeros(2), "y": np.zeros(3)})


@pytest.mark.parametrize(
    "content, message",
    [
        (b"solid", "not a PLY file"),
        (b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", "got 'format ascii 1.0'"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 2\n", "no 'end_header'"),
        (f"{HEADER}element face 1\nend_header\n".encode(), "got 'element face 1'"),
        (f"{HEADER}element vertex many\nend_header\n".encode(), "got 'element vertex many'"),
        (f"{HEADER}element vertex -1\nproperty float x\nend_header\n".encode(), "'element vertex COUNT'"),
        (f"{HEADER}element vertex\nend_header\n".encode(), "got 'element vertex'"),
        (f"{HEADER}element vertex 1\nend_header\n".encode(), "different properties"),
        (f"{HEADER}element vertex 1\n{2 * COLUMN}end_header\n".encode(), r"got \['x', 'x'\]"),
        (f"{HEADER}element vertex {10**15}\nproperty float x\nend_header\n".encode(), "truncated"),
        (f"{HEADER}element vertex 1\nproperty list uchar int a\nend_header\n".encode(), "only scalars"),
        (f"{HEADER}element vertex 2\nproperty float x\nend_header\n1234".encode(), "truncated"),
    ],
)
def test_damaged_files_are_explained(tmp_path, content, message):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_ply_vertices(tmp_path / "a.ply")


def test_other_point_clouds_are_no_gaussians(tmp_path):
    write_ply_vertices(tmp_path / "a.ply", {name: np.zeros(1) for name in "xyz"})
    with pytest.raises(ValueError, match="lacks the columns.*f_dc_0"):
        Gaussian.load_ply(tmp_path / "a.ply")
