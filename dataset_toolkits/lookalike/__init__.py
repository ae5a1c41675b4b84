"""Raw files of a data set that look like those of 3D-FUTURE, made of free furniture."""
