"""The furniture of the Debian package sweethome3d-furniture as a data set with licences and a fixed split."""
