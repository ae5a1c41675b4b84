"""Properties syntax and catalogue entries."""

import zipfile

import pytest

from dataset_toolkits.subsets.sweethome3d.catalogue import (
    IDENTITY_ROTATION,
    CatalogueError,
    parse_properties,
    read_catalogue,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb"key=value", {"key": "value"}),
        (b"caf\xe9 = cr\xe8me", {"caf\xe9": "cr\xe8me"}),
        (rb"name#7=Bill 10\u20ac", {"name#7": "Bill 10\u20ac"}),
        (rb"a\ key:b\=c\\d\te", {"a key": "b=c\\d\te"}),
        (b"# comment\n! too\n\n  k   v w ", {"k": "v w "}),
        (b"long=one \\\n   two\\\n three\nnext=1", {"long": "one twothree", "next": "1"}),
        (rb"path=C\:\\x\\" + b"\nnext=1", {"path": "C:\\x\\", "next": "1"}),
        (b"empty=\nbare", {"empty": "", "bare": ""}),
    ],
    ids=["plain", "latin-1", "unicode", "escapes", "comments", "continued", "even backslashes", "no value"],
)
def test_properties(text, expected):
    assert parse_properties(text) == expected


def test_entries_have_metres_rotation_and_unescaped_names(library):
    bed, chair, _ = read_catalogue(library)
    assert (bed.id, bed.name, bed.category) == ("Scopia/bed1", "Bed \u20ac5", "Bedroom")
    assert bed.size_m == (2.0, 1.0, 0.5)
    assert bed.rotation == (0, 0, 1, 0, 1, 0, -1, 0, 0)
    assert (bed.model_path, bed.creator, bed.elevation_m) == ("scopia/bed1/bed1.obj", "Scopia", 0.12)
    assert chair.rotation == IDENTITY_ROTATION and chair.elevation_m == 0


def test_a_file_that_is_no_library_is_named(tmp_path):
    (tmp_path / "x.sh3f").write_bytes(b"nothing")
    with pytest.raises(CatalogueError, match="x.sh3f: expected a furniture library"):
        read_catalogue(tmp_path / "x.sh3f")


@pytest.mark.parametrize("line", ["modelRotation#1=1 0 0", "width#1=wide"])
def test_an_unusable_entry_is_named(tmp_path, line):
    path = tmp_path / "x.sh3f"
    fields = "id#1=a\nname#1=a\ncategory#1=b\nmodel#1=/a/a.obj\nwidth#1=1\ndepth#1=1\nheight#1=1\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", fields + line)
    with pytest.raises(CatalogueError, match="catalogue entry 1 is not usable"):
        read_catalogue(path)
