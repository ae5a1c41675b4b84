"""Output formats beside those of `scenegen.pipelines.export`, one file each, found through `registry`."""
