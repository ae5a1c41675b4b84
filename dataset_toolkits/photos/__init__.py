"""From annotated photos to cut-outs, masks, geometry features, tables of scenes and true scenes."""
