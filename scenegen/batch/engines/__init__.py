"""Tasks on processes of this machine or on a Ray cluster: one interface, two engines."""
