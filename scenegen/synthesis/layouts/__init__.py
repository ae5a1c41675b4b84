"""Which furniture stands where, seen by which camera, in which room and light."""
