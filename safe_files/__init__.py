"""Files that others made, read within limits: nothing is run, waited for, or believed about its own size."""
