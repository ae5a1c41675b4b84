"""What an object can be made of: Gaussians, octrees (voxels, radiance fields) and meshes."""
