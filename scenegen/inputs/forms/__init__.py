"""The forms in which the objects of a photo are given: one file a form.

To add a form, add one file here and nothing else. It defines ``FORM``, a `scenegen.inputs.form.Form`: which
file names belong to it, and how its files become masks and cut-outs. Every file of this folder is taken, in
the order of their names. Layouts with files of two forms are refused, so a form claims only names that no
other form claims.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from scenegen.inputs.form import Form
from scenegen.inputs.forms.label_image import FORM as LABEL_IMAGE


def _forms_of_this_folder() -> tuple[Form, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}").FORM for name in names)


FORMS = _forms_of_this_folder()


def form_of_file(path: Path) -> Form:
    """The form of a file that a user names, whatever it is called: by its suffix, else a label image."""
    return next((form for form in FORMS if path.suffix.lower() in form.suffixes), LABEL_IMAGE)
